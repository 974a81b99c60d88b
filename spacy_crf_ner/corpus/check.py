"""Reads a corpus once, split by split, and says what it holds and what in it will hurt."""

from array import array
from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, Iterable, List, Optional, Sequence

from spacy.tokens import Doc
from spacy.util import minibatch

from spacy_crf_ner.corpus.ambiguity import Ambiguity, SurfaceForms
from spacy_crf_ner.corpus.duplicates import TextIndex, prefixes
from spacy_crf_ner.corpus.finding import Finding, Severity
from spacy_crf_ner.corpus.problems import find_problems
from spacy_crf_ner.corpus.stats import SplitStats
from spacy_crf_ner.corpus.vocabulary import (
    Coverage,
    EncoderVocabulary,
    VectorsVocabulary,
    Vocabulary,
    cover,
)
from spacy_crf_ner.formats.doc_builder import DocMaker

SCHEMA = "spacy-crf-ner.check.v1"
TOP = 30
"""How many of the most ambiguous forms are named."""
_BATCH = 256


@dataclass(frozen=True)
class CorpusReport:
    """What a corpus holds, and what was found in it.

    splits (List[SplitStats]): The training data first.
    window (int): How much a model sees at a time.
    texts (TextIndex): The texts that occur there more than once.
    ambiguity (Optional[Ambiguity]): Of the training data; None if it has no entities.
    coverages (List[Coverage]): What each vocabulary does not know of each split.
    findings (List[Finding]): The worst first.
    """

    splits: List[SplitStats]
    window: int
    texts: TextIndex
    ambiguity: Optional[Ambiguity]
    coverages: List[Coverage]
    findings: List[Finding]

    def to_json(self) -> Dict[str, Any]:
        """All of it, for a JSON file."""
        train, names = self.splits[0], [split.name for split in self.splits]
        groups = [(name,) for name in names] + prefixes(names)[1:]
        levels = Counter(finding.severity for finding in self.findings)
        return {
            "schema": SCHEMA,
            "window": self.window,
            "splits": {split.name: split.to_json(train, self.window) for split in self.splits},
            "duplicates": {name: self.texts.duplicates[name].count for name in names},
            "leaks": {
                f"{name} in {other}": self.texts.leaks[name, other].count
                for i, name in enumerate(names)
                for other in names[:i]
            },
            "contradictions": {"+".join(group): self.texts.contradictions(group).count for group in groups},
            "ambiguity": self.ambiguity and self.ambiguity.to_json(),
            "vocabularies": [coverage.to_json() for coverage in self.coverages],
            "summary": {severity.value: levels[severity] for severity in Severity},
            "findings": [finding.to_json() for finding in self.findings],
        }


class CorpusCheck:
    """Checks a corpus: `add` the splits, the training data first, then `report`.

    window (int): How much the model sees at a time: word-pieces if there is an encoder, else tokens.
    encoder (Optional[EncoderVocabulary]): The encoder that will be trained.
    vectors (Optional[VectorsVocabulary]): The vectors that the pipeline will have.
    """

    def __init__(
        self,
        window: int,
        *,
        encoder: Optional[EncoderVocabulary] = None,
        vectors: Optional[VectorsVocabulary] = None,
    ) -> None:
        self.window = window
        self.encoder = encoder
        self.vectors = vectors
        self._splits: List[SplitStats] = []
        self._texts = TextIndex()
        self._forms = SurfaceForms()

    def add(self, name: str, docs: Iterable[Doc], make: DocMaker) -> SplitStats:
        """Read a split.

        name (str): Its name, for messages.
        docs (Iterable[Doc]): Its docs, all with a token at least; none is kept.
        make (DocMaker): What makes them, for this split only.
        RETURNS (SplitStats): The counts.
        """
        stats = SplitStats(name, pieces=array("L") if self.encoder else None)
        is_train = not self._splits
        self._splits.append(stats)
        for batch in minibatch(docs, _BATCH):
            for doc in batch:
                stats.add(doc, make.nlp.tokenizer)
                self._texts.add(name, doc)
                if is_train:
                    self._forms.add(doc)
            if self.encoder is not None and stats.pieces is not None:
                stats.pieces.extend(self.encoder.lengths([doc.text for doc in batch]))
        counts = make.counts
        stats.empty_docs = counts.empty  # they are counted and not handed on
        stats.overlapping, stats.duplicates = counts.overlapping, counts.duplicates
        stats.notes = +counts.notes
        return stats

    def report(self) -> CorpusReport:
        """Judge what was read. This can be done once.

        RETURNS (CorpusReport): The counts and the findings.
        """
        ambiguity = self._forms.count(TOP) if self._splits[0].entities else None
        coverages = [*_cover(self.encoder, self._splits), *_cover(self.vectors, self._splits)]
        findings = find_problems(self._splits, self._texts, ambiguity, coverages, self.window)
        return CorpusReport(self._splits, self.window, self._texts, ambiguity, coverages, findings)


def _cover(vocabulary: Optional[Vocabulary], splits: Sequence[SplitStats]) -> List[Coverage]:
    if vocabulary is None:
        return []
    units = "letters" if vocabulary.unit == "characters" else "words"
    return [cover(vocabulary, split.name, getattr(split, units)) for split in splits if split.docs]
