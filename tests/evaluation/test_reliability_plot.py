import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.evaluation.calibration import Reliability, reliability
from spacy_crf_ner.evaluation.reliability_plot import DPI, PANEL_INCHES, draw_reliability, wilson_interval

matplotlib = pytest.importorskip("matplotlib")

SIZE = tuple(round(DPI * inches) for inches in PANEL_INCHES)


def overconfident() -> Reliability:
    scores: List[float] = [i / 100 for i in range(1, 101)] * 3
    return reliability(scores, [i % 3 > 0 for i in range(len(scores))])


def test_png_has_its_size_and_is_not_blank(tmp_path: Path) -> None:
    from matplotlib.image import imread

    path = tmp_path / "reliability.png"
    draw_reliability(path, [("before", overconfident()), ("after", overconfident())])
    pixels = imread(path)
    height, width = pixels.shape[:2]
    assert (width, height) == (2 * SIZE[0], SIZE[1])
    for panel in (pixels[:, : width // 2], pixels[:, width // 2 :]):
        dark = (panel[..., :3].mean(axis=-1) < 0.9).mean()
        assert 0.05 < dark < 0.95, "bars, and white around them"


def test_other_figures_make_another_picture(tmp_path: Path) -> None:
    for name, correct in (("a", True), ("b", False)):
        draw_reliability(tmp_path / name, [("x", reliability([0.5, 0.9], [True, correct]))])
    assert (tmp_path / "a").read_bytes() != (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("score", [0.0, 1.0])
def test_one_entity_and_one_bin_are_drawn(tmp_path: Path, score: float) -> None:
    draw_reliability(tmp_path / "x.png", [("x", reliability([score], [True], n_bins=1))])
    assert (tmp_path / "x.png").stat().st_size > 0


def test_many_entities_are_drawn(tmp_path: Path) -> None:
    draw_reliability(tmp_path / "x.png", [("x", reliability([0.9] * 200_000, [True] * 200_000))])
    assert (tmp_path / "x.png").stat().st_size > 0


def test_no_panel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give one or more panels"):
        draw_reliability(tmp_path / "x.png", [])


def test_missing_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ValueError, match=r'pip install "spacy-crf-ner\[plot\]"'):
        draw_reliability(tmp_path / "x.png", [("x", overconfident())])


def test_interval_by_hand() -> None:
    """Newcombe (1998), Statistics in Medicine 17, table I, method 3: 81 of 263 and 15 of 148, with z = 1.96."""
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(15 / 148, 148) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson_interval(0.0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert wilson_interval(1.0, 20) == pytest.approx((1 - 0.1611, 1.0), abs=5e-5)


@given(st.integers(1, 10**6), st.floats(0, 1))
def test_interval_holds_its_share(count: int, fraction: float) -> None:
    share = round(fraction * count) / count
    low, high = wilson_interval(share, count)
    assert -1e-12 <= low <= share <= high <= 1 + 1e-12


def test_process_keeps_its_backend(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "from spacy_crf_ner.evaluation.calibration import reliability\n"
        "from spacy_crf_ner.evaluation.reliability_plot import draw_reliability\n"
        f"draw_reliability({str(tmp_path / 'x.png')!r}, [('x', reliability([0.5], [True]))])\n"
        "print('matplotlib.pyplot' in sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
