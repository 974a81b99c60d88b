"""`spacy-crf-ner.AnnotatedCorpus.v1`: a corpus reader for a training config, over files of any format."""

import logging
import random
from collections import Counter
from itertools import islice, pairwise
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Union

from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline import Sentencizer
from spacy.tokens import Doc
from spacy.tokens import Span as SpacySpan
from spacy.training import Example
from spacy.util import logger

from spacy_crf_ner.formats.doc_builder import META, ORIGIN, RELATIONS, Counts, DocMaker
from spacy_crf_ner.formats.encodings import check_encoding
from spacy_crf_ner.formats.reading import AUTO, read

_READ = "read"
_UNANNOTATED = "docs without annotation"


class AnnotatedCorpus:
    """Examples from annotated files of any format.

    path (Union[str, Path, List[Union[str, Path]]]): Files, or folders of files.
    format (str): Name of their format; "auto" looks at the beginning of each file.
    settings (Optional[Dict[str, Any]]): Settings of the format, as `repair`.
    spans_key (Optional[str]): Keep all entities in `doc.spans` under this key, those too that overlap a longer
        one.
    min_length (int): Leave out docs of fewer tokens; how many is logged.
    max_length (int): Split docs of more tokens at the ends of their sentences into docs of as many at most; 0:
        never. No sentence and no entity is cut: a sentence that is longer itself stays whole. Where a doc has no
        sentence starts, spaCy's rule-based `sentencizer` says where a sentence ends.
    limit (int): At most so many examples; 0: all.
    shuffle (bool): Mix those examples anew each time, which holds them all in memory. Python's `random` is used,
        which `spacy train` seeds.
    encoding (Optional[str]): Encoding of the files; null: that of the byte order mark, or UTF-8.
    """

    def __init__(
        self,
        path: Union[str, Path, List[Union[str, Path]], None],
        format: str = AUTO,
        settings: Optional[Dict[str, Any]] = None,
        spans_key: Optional[str] = None,
        min_length: int = 0,
        max_length: int = 0,
        limit: int = 0,
        shuffle: bool = False,
        encoding: Optional[str] = None,
    ) -> None:
        if path is None:
            raise ValueError(Errors.E913)
        for name, value in (("min_length", min_length), ("max_length", max_length), ("limit", limit)):
            if value < 0:
                raise ValueError(f"{name} is {value}; give 0 or more")
        self.paths: Sequence[Union[str, Path]] = path if isinstance(path, list) else [path]
        self.format = format
        self.settings = settings
        self.spans_key = spans_key
        self.min_length = min_length
        self.max_length = max_length
        self.limit = limit
        self.shuffle = shuffle
        check_encoding(encoding)
        self.encoding = encoding
        self._told: Set[str] = set()

    def __call__(self, nlp: Language) -> Iterator[Example]:
        """Read the files.

        nlp (Language): The pipeline. Its tokenizer makes the tokens, and its vocab is that of the docs.
        YIELDS (Example): The examples.
        RAISES (FormatError): A file cannot be read.
        RAISES (ValueError): There is no such format, or it has no such setting.
        """
        make = DocMaker(lambda: nlp, spans_key=self.spans_key)
        met = Counter[str]()
        try:
            docs: Iterable[Doc] = islice(self._docs(make, met), self.limit or None)
            if self.shuffle:
                docs = list(docs)
                random.shuffle(docs)
            for doc in docs:
                if doc.has_unknown_spaces:
                    yield Example(Doc(nlp.vocab, words=[token.text for token in doc]), doc)
                else:
                    yield Example(nlp.make_doc(doc.text), doc)
            # Not where somebody has wanted only the first few, as components do that are initialized.
            self._tell_read(met, make.counts)
        finally:
            # Also where an error ends it.
            self._tell(met, make.counts)

    def _docs(self, make: DocMaker, met: "Counter[str]") -> Iterator[Doc]:
        sentencizer = Sentencizer()
        for doc in read(self.paths, make, format=self.format, settings=self.settings, encoding=self.encoding):
            parts = [doc]
            if self.max_length and len(doc) > self.max_length:
                parts = split_at_sentences(doc, self.max_length, sentencizer)
                met["relations across sentences, left out"] += _n_relations([doc]) - _n_relations(parts)
            met[_UNANNOTATED] += not doc.has_annotation("ENT_IOB")
            for part in parts:
                met["sentences that are longer than max_length, and whole"] += (
                    bool(self.max_length) and len(part) > self.max_length
                )
                if len(part) < self.min_length:
                    met["docs that are shorter than min_length, left out"] += 1
                else:
                    yield part

    def _tell_read(self, met: "Counter[str]", counts: Counts) -> None:
        """Log what was read; once, though the files are read in every epoch. No entity at all is a warning."""
        if _READ in self._told:
            return
        self._told.add(_READ)
        labels = ", ".join(f"{label} {counts.entities[label]:,}" for label in sorted(counts.entities))
        said = f"read {counts.docs:,} docs with {counts.entities.total():,} entities"
        said += f" ({labels})" if labels else ""
        said += f"; {met[_UNANNOTATED]:,} docs are without annotation" if met[_UNANNOTATED] else ""
        logger.log(logging.INFO if labels else logging.WARNING, "%s: %s", self._names, said)

    def _tell(self, met: "Counter[str]", counts: Counts) -> None:
        """Log what was not as the files have it; once, though the files are read in every epoch."""
        own = (
            f"docs with token boundaries of their own, whose entities may not fit the tokens ({counts.first_own})"
        )
        met = Counter({what: count for what, count in met.items() if what != _UNANNOTATED})
        for what, count in {**counts.losses(), own: counts.own_boundaries, **met}.items():
            if count and what not in self._told:
                self._told.add(what)
                logger.info("%s: %d %s", self._names, count, what)

    @property
    def _names(self) -> str:
        return ", ".join(map(str, self.paths))


def split_at_sentences(doc: Doc, max_length: int, sentencizer: Optional[Sentencizer] = None) -> List[Doc]:
    """Split a doc at ends of sentences into docs that are as long as may be.

    doc (Doc): The doc. Where its sentence starts are not known, the sentencizer tells them.
    max_length (int): Tokens of a part, at most. A sentence that is longer is a part of its own.
    sentencizer (Optional[Sentencizer]): Tells the ends of sentences; spaCy's default one, if None.
    RETURNS (List[Doc]): The parts. No entity is cut: where one runs over an end, that is none.
    """
    if doc.has_annotation("SENT_START"):
        starts = [token.i for token in doc if token.is_sent_start]
    else:
        (guesses,) = (sentencizer or Sentencizer()).predict([doc])
        starts = [i for i, is_start in enumerate(guesses) if is_start]
    inside = {
        i for group in (doc.ents, *doc.spans.values()) for span in group for i in range(span.start + 1, span.end)
    }
    ends = [start for start in starts if start and start not in inside] + [len(doc)]
    cuts = [0]
    for end, following in zip(ends, [*ends[1:], None]):
        if following is None or following - cuts[-1] > max_length:
            cuts.append(end)
    return [_part(doc, start, end) for start, end in pairwise(cuts)]


def _part(doc: Doc, start: int, end: int) -> Doc:
    """`Span.as_doc`, which loses the spans, the user data, and that spaces are unknown."""
    part = doc[start:end].as_doc()
    part.has_unknown_spaces = doc.has_unknown_spaces
    for key, group in doc.spans.items():
        inside = [span for span in group if start <= span.start and span.end <= end]
        part.spans[key] = [
            SpacySpan(part, span.start - start, span.end - start, span.label, span_id=span.id) for span in inside
        ]
    part.user_data.update((key, doc.user_data[key]) for key in (ORIGIN, META) if key in doc.user_data)
    first = doc[start].idx
    relations = [_moved(relation, first) for relation in doc.user_data.get(RELATIONS, ())]
    kept = [relation for relation in relations if _is_within(relation, len(part.text))]
    if kept:
        part.user_data[RELATIONS] = kept
    return part


def _moved(relation: Dict[str, Any], by: int) -> Dict[str, Any]:
    ends = {key: [relation[key][0] - by, relation[key][1] - by, relation[key][2]] for key in ("head", "tail")}
    return {**relation, **ends}


def _is_within(relation: Dict[str, Any], length: int) -> bool:
    return all(relation[key][0] >= 0 and relation[key][1] <= length for key in ("head", "tail"))


def _n_relations(docs: Iterable[Doc]) -> int:
    return sum(len(doc.user_data.get(RELATIONS, ())) for doc in docs)
