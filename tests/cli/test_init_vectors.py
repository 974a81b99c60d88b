"""`crf init-vectors`: vectors of characters and bigrams that a training takes."""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, List

import numpy
import pytest
import spacy
from spacy.strings import get_string_id
from typer.testing import CliRunner, Result

from spacy_crf_ner.cli import app

pytest.importorskip("gensim")


def init_vectors(*args: Any) -> Result:
    return CliRunner().invoke(app, ["init-vectors", *map(str, args)])


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where 京 and 都 are, 北 and 东 are about, and never 猫 and 狗, which are among others."""
    draw = numpy.random.default_rng(0)
    lines: List[str] = []
    for _ in range(300):
        city, pet = draw.choice(["北京", "东都"]), draw.choice(["小猫", "小狗"])
        lines += [f"我在{city}工作，Ａ１", f"　他有一只{pet}呢 A1"]
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(lines) + "\n", encoding="utf8")
    return path


def similarity(nlp: Any, one: str, other: str) -> float:
    a, b = nlp.vocab.get_vector(one), nlp.vocab.get_vector(other)
    return float(a @ b / numpy.linalg.norm(a) / numpy.linalg.norm(b))


def has(nlp: Any, text: str) -> bool:
    return get_string_id(text) in nlp.vocab.vectors


def test_neighbours_make_vectors_alike(texts: Path, tmp_path: Path) -> None:
    result = init_vectors(texts, tmp_path / "out", "--width", 20, "--epochs", 10)
    assert result.exit_code == 0, result.output
    nlp = spacy.load(tmp_path / "out")
    assert f"Saved {len(nlp.vocab.vectors):,} vectors of width 20" in result.output
    assert similarity(nlp, "猫", "狗") > similarity(nlp, "猫", "京")
    assert similarity(nlp, "北京", "东都") > similarity(nlp, "北京", "小狗")
    # Folded, and of nothing but tokens that follow one another.
    assert all(has(nlp, text) for text in ("A", "A1", "呢A", "我", "我在"))
    assert not any(has(nlp, text) for text in ("Ａ", "\u3000", " ", "\u3000他", " 他", "一我"))


def test_a_training_takes_them(texts: Path, tmp_path: Path) -> None:
    assert init_vectors(texts, tmp_path / "out", "--width", 8).exit_code == 0
    nlp = spacy.load(tmp_path / "out")
    tok2vec = {
        "@architectures": "spacy-crf-ner.CharEmbed.v1",
        "include_static_vectors": True,
        "include_bigram_vectors": True,
        "static_width": 8,
        "bigram_vectors_width": 8,
    }
    pipe: Any = nlp.add_pipe("crf_ner", config={"model": {"tok2vec": tok2vec}})
    pipe.add_label("LOC")
    nlp.initialize()
    assert nlp("我在北京").text == "我在北京"


def test_one_thread_makes_the_same_again(texts: Path, tmp_path: Path) -> None:
    for name in ("a", "b"):
        assert init_vectors(texts, tmp_path / name, "--width", 8, "--seed", 3).exit_code == 0
    one, other = (spacy.load(tmp_path / name).vocab.vectors.data for name in ("a", "b"))
    assert (one == other).all()
    assert init_vectors(texts, tmp_path / "c", "--width", 8, "--seed", 4).exit_code == 0
    assert not (one == spacy.load(tmp_path / "c").vocab.vectors.data).all()


@pytest.mark.parametrize("more, bigrams", [([], True), (["--no-bigrams"], False)])
def test_bigrams_may_be_left_out(texts: Path, tmp_path: Path, more: List[str], bigrams: bool) -> None:
    assert init_vectors(texts, tmp_path / "out", "--width", 8, *more).exit_code == 0
    assert has(spacy.load(tmp_path / "out"), "北京") == bigrams


def test_words_have_no_bigrams_by_default(tmp_path: Path) -> None:
    path = tmp_path / "en.txt"
    path.write_text("He lives in Paris.\n" * 10, encoding="utf8")
    assert init_vectors(path, tmp_path / "out", "--lang", "en", "--width", 8).exit_code == 0
    nlp = spacy.load(tmp_path / "out")
    assert len(nlp.vocab.vectors) == 5 and has(nlp, "Paris")


def test_too_little_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "few.txt"
    path.write_text("北京\n", encoding="utf8")
    result = init_vectors(path, tmp_path / "out")
    assert result.exit_code == 1
    assert "no token that is there 5 times" in result.output
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full")
def test_a_place_without_room_is_named(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All texts are written once more, as tokens."""
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (scratch / "tokens.txt").symlink_to("/dev/full")
    monkeypatch.setattr(TemporaryDirectory, "__enter__", lambda self: str(scratch))
    result = init_vectors(texts, tmp_path / "out")
    assert result.exit_code == 1
    assert "scratch: the tokens cannot be written (No space left on device); set TMPDIR to a" in result.output


def test_without_gensim_the_extra_is_named(texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gensim", None)
    result = init_vectors(texts, tmp_path / "out")
    assert result.exit_code == 1
    assert "gensim is not installed" in result.output and "spacy-crf-ner[vectors]" in result.output
