"""What of a corpus an encoder's or the vectors' vocabulary does not know."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Protocol, Sequence, Set, Union

import spacy

from spacy_crf_ner.tagger.char_embed import fold_width

MAX_UNKNOWN = 10
"""How many of the most frequent unknown characters or tokens a JSON file names."""


class Vocabulary(Protocol):
    """A vocabulary.

    kind (str): "encoder" or "vectors".
    name (str): Its name on the hub, or its folder.
    unit (str): What is looked up in it: "characters" or "tokens".
    """

    kind: str
    name: str
    unit: str

    def unknown(self, units: Sequence[str]) -> Set[str]:
        """Those of some characters or tokens that it does not know."""


class EncoderVocabulary:
    """The word-pieces of a pretrained encoder. A character is unknown if the tokenizer gives it the unknown token.

    encoder (str): Name on the hub, or a folder. Only its tokenizer is loaded.
    RAISES (OSError): It cannot be found.
    RAISES (ValueError): It has no fast tokenizer.
    """

    kind = "encoder"
    unit = "characters"

    def __init__(self, encoder: str) -> None:
        # Takes seconds to import.
        from spacy_crf_ner.encoder.pretrained import load_tokenizer
        from spacy_crf_ner.encoder.spec import EncoderSpec

        self.name = encoder
        self._tokenizer: Any = load_tokenizer(EncoderSpec(encoder))

    def unknown(self, units: Sequence[str]) -> Set[str]:
        """Those of some characters that the tokenizer gives the unknown token."""
        token = self._tokenizer.unk_token_id
        return {unit for unit, ids in zip(units, self._ids(units, special=False)) if token in ids}

    def lengths(self, texts: Sequence[str]) -> List[int]:
        """The number of word-pieces of each text, special tokens counted."""
        return [len(ids) for ids in self._ids(texts, special=True)]

    def _ids(self, texts: Sequence[str], special: bool) -> List[List[int]]:
        if not texts:
            return []
        # Not verbose: it would warn of texts that are longer than the encoder takes.
        return self._tokenizer(list(texts), add_special_tokens=special, verbose=False)["input_ids"]


class VectorsVocabulary:
    """The keys of a table of vectors.

    path (Union[str, Path]): What `spacy init vectors` wrote, or any pipeline with vectors.
    RAISES (ValueError): There are no vectors.
    """

    kind = "vectors"
    unit = "tokens"

    def __init__(self, path: Union[str, Path]) -> None:
        self.name = str(path)
        try:
            nlp = spacy.load(str(path))
        except (OSError, ValueError) as error:
            reason = "it is not there" if not Path(path).exists() else " ".join(str(error).split())
            raise ValueError(
                f"--vectors {path}: not a pipeline with vectors ({reason}); make one with "
                "`python -m spacy init vectors LANG FILE OUT`"
            ) from None
        if not nlp.vocab.vectors_length:
            raise ValueError(
                f"--vectors {path}: a pipeline without vectors; make one with "
                "`python -m spacy init vectors LANG FILE OUT`"
            )
        self._vocab = nlp.vocab

    def unknown(self, units: Sequence[str]) -> Set[str]:
        """Those of some tokens that have no vector."""
        return {unit for unit in units if not self._vocab.has_vector(unit)}


@dataclass(frozen=True)
class Coverage:
    """What of one split a vocabulary does not know. White space is left out.

    split, kind, name, unit (str): The split's name, and what the vocabulary says of itself.
    total, distinct (int): Characters or tokens, and different ones.
    unknown, unknown_folded (Counter[str]): The unknown ones, as they are and after width folding: １ is 1.
    """

    split: str
    kind: str
    name: str
    unit: str
    total: int
    distinct: int
    unknown: "Counter[str]"
    unknown_folded: "Counter[str]"

    @property
    def share(self) -> float:
        """Which part is unknown, as it is."""
        return sum(self.unknown.values()) / max(self.total, 1)

    @property
    def share_folded(self) -> float:
        """Which part is unknown after width folding."""
        return sum(self.unknown_folded.values()) / max(self.total, 1)

    def to_json(self) -> Dict[str, Any]:
        """The counts, for a JSON file."""
        return {
            "split": self.split,
            "kind": self.kind,
            "name": self.name,
            "unit": self.unit,
            "total": self.total,
            "distinct": self.distinct,
            "unknown": _counted(self.unknown, self.share),
            "unknown_folded": _counted(self.unknown_folded, self.share_folded),
        }


def _counted(unknown: "Counter[str]", share: float) -> Dict[str, Any]:
    return {
        "total": sum(unknown.values()),
        "distinct": len(unknown),
        "share": round(share, 6),
        "most_common": unknown.most_common(MAX_UNKNOWN),
    }


def cover(vocabulary: Vocabulary, split: str, counts: Mapping[str, int]) -> Coverage:
    """Look up what a split is made of.

    vocabulary (Vocabulary): Where to look.
    split (str): The split's name.
    counts (Mapping[str, int]): How often it has each character or token.
    RETURNS (Coverage): What is unknown.
    """
    seen = Counter({unit: n for unit, n in counts.items() if not unit.isspace()})
    folded: Counter[str] = Counter()
    for unit, n in seen.items():
        folded[fold_width(unit)] += n
    return Coverage(
        split=split,
        kind=vocabulary.kind,
        name=vocabulary.name,
        unit=vocabulary.unit,
        total=sum(seen.values()),
        distinct=len(seen),
        unknown=_unknown(vocabulary, seen),
        unknown_folded=_unknown(vocabulary, folded),
    )


def _unknown(vocabulary: Vocabulary, counts: "Counter[str]") -> "Counter[str]":
    unknown = vocabulary.unknown(list(counts))
    return Counter({unit: n for unit, n in counts.items() if unit in unknown})
