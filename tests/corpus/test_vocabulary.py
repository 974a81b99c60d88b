from collections import Counter
from pathlib import Path
from typing import Sequence, Set, cast

import numpy
import pytest
import spacy
from thinc.types import Floats1d

from spacy_crf_ner.corpus.vocabulary import EncoderVocabulary, VectorsVocabulary, cover
from tests.encoder.util import save_encoder, save_tiny_bert
from tests.util import TEXTS


class Known:
    """A vocabulary of some characters."""

    kind = "encoder"
    name = "known"
    unit = "characters"

    def __init__(self, known: str) -> None:
        self.known = known

    def unknown(self, units: Sequence[str]) -> Set[str]:
        return set(units) - set(self.known)


def save_vectors(path: Path, words: Sequence[str], lang: str = "zh") -> Path:
    """Save what `spacy init vectors` writes."""
    nlp = spacy.blank(lang)
    for i, word in enumerate(words):
        nlp.vocab.set_vector(word, cast(Floats1d, numpy.full(4, i + 1.0, dtype="float32")))
    nlp.to_disk(path)
    return path


def test_coverage_counts_before_and_after_width_folding() -> None:
    coverage = cover(
        Known("A1中"), "dev", Counter({"Ａ": 3, "A": 2, "中": 4, "国": 1, "１": 5, " ": 9, "\n": 9, "\u3000": 9})
    )
    assert (coverage.split, coverage.kind, coverage.name, coverage.unit) == (
        "dev",
        "encoder",
        "known",
        "characters",
    )
    assert (coverage.total, coverage.distinct) == (15, 5)
    assert coverage.unknown == {"Ａ": 3, "国": 1, "１": 5}
    assert coverage.unknown_folded == {"国": 1}
    assert (coverage.share, coverage.share_folded) == (9 / 15, 1 / 15)


def test_folding_may_cost_what_only_full_width_was_known() -> None:
    coverage = cover(Known("，"), "dev", Counter({"，": 3, ",": 1}))
    assert (coverage.unknown, coverage.unknown_folded) == ({",": 1}, {",": 4})


def test_coverage_of_nothing() -> None:
    coverage = cover(Known(""), "dev", Counter({" ": 3}))
    assert (coverage.total, coverage.share, coverage.share_folded) == (0, 0.0, 0.0)


def test_coverage_as_json() -> None:
    coverage = cover(Known("A中"), "dev", Counter({"Ａ": 1, "中": 1, "国": 1}))
    assert coverage.to_json() == {
        "split": "dev",
        "kind": "encoder",
        "name": "known",
        "unit": "characters",
        "total": 3,
        "distinct": 3,
        "unknown": {"total": 2, "distinct": 2, "share": 0.666667, "most_common": [("Ａ", 1), ("国", 1)]},
        "unknown_folded": {"total": 1, "distinct": 1, "share": 0.333333, "most_common": [("国", 1)]},
    }


def test_encoder_does_not_know_what_its_tokenizer_gives_the_unknown_token(tmp_path: Path) -> None:
    encoder = EncoderVocabulary(str(save_tiny_bert(tmp_path, ["北京1"])))
    assert (encoder.kind, encoder.name, encoder.unit) == ("encoder", str(tmp_path), "characters")
    # A zero-width space is dropped, which is not unknown.
    assert encoder.unknown(["北", "上", "1", "１", "\u200b"]) == {"上", "１"}
    assert encoder.unknown([]) == set()


def test_byte_level_encoder_knows_all(tmp_path: Path) -> None:
    save_encoder(tmp_path, "roberta")
    assert EncoderVocabulary(str(tmp_path)).unknown(["北", "龘", "😀"]) == set()


def test_lengths_in_wordpieces_count_special_tokens(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    encoder = EncoderVocabulary(str(save_tiny_bert(tmp_path, [text for text, _ in TEXTS])))
    assert encoder.lengths(["北京", "北" * 1000, "北１"]) == [4, 1002, 4]
    assert encoder.lengths([]) == []
    assert capfd.readouterr().err == caplog.text == ""


def test_encoder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"encoder folder '.*nowhere' does not exist"):
        EncoderVocabulary(str(tmp_path / "nowhere"))


def test_vectors_do_not_know_what_has_no_vector(tmp_path: Path) -> None:
    vectors = VectorsVocabulary(save_vectors(tmp_path / "vectors", ["Rome", "北"], "en"))
    assert (vectors.kind, vectors.name, vectors.unit) == ("vectors", str(tmp_path / "vectors"), "tokens")
    assert vectors.unknown(["Rome", "rome", "北", "京"]) == {"rome", "京"}


def test_vectors_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"--vectors .*nowhere: not a pipeline with vectors \(it is not there\); make"
    ):
        VectorsVocabulary(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match=r"--vectors .*empty: not a pipeline with vectors \(\[E"):
        VectorsVocabulary(tmp_path / "empty")


def test_pipeline_without_vectors(tmp_path: Path) -> None:
    spacy.blank("en").to_disk(tmp_path)
    with pytest.raises(
        ValueError, match=r"a pipeline without vectors; make one with `python -m spacy init vectors"
    ):
        VectorsVocabulary(tmp_path)
