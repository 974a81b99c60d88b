"""Small corpora, written to disk and checked as the command does."""

from pathlib import Path
from typing import List, Optional, Sequence

import spacy
from spacy.tokens import Doc

from spacy_crf_ner.corpus.check import CorpusCheck, CorpusReport
from spacy_crf_ner.corpus.finding import Finding
from spacy_crf_ner.corpus.vocabulary import EncoderVocabulary, VectorsVocabulary
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read
from tests.evaluation.util import Entity, make_doc, write_docs

PER: Sequence[Entity] = [(0, 2, "PER")]


def people(n: int = 120) -> List[Doc]:
    """Docs that give cause for `few_docs` alone, below 2,000: the last has no entity, the others have one."""
    return [make_doc(f"张三{chr(0x4E00 + i)}", PER) for i in range(n - 1)] + [make_doc("今天好")]


def others() -> List[Doc]:
    """Dev docs that give cause for nothing beside `people`."""
    return [make_doc("李四来", PER), make_doc("王五走", PER)]


def in_english(words: str, *entities: Entity) -> Doc:
    """A doc of tokens that are separated by spaces."""
    doc = make_doc(words.split(" "), entities)
    return Doc(
        doc.vocab,
        words=words.split(" "),
        spaces=[True] * (len(doc) - 1) + [False],
        ents=[f"{token.ent_iob_}-{token.ent_type_}" if token.ent_type else "O" for token in doc],
    )


def check_docs(
    folder: Path,
    train: List[Doc],
    dev: Optional[List[Doc]] = None,
    test: Optional[List[Doc]] = None,
    *,
    lang: str = "zh",
    window: int = 128,
    encoder: Optional[EncoderVocabulary] = None,
    vectors: Optional[VectorsVocabulary] = None,
) -> CorpusReport:
    """Write the splits to a folder and check the files."""
    check = CorpusCheck(window, encoder=encoder, vectors=vectors)
    for name, docs in {"train": train, "dev": dev, "test": test}.items():
        if docs is not None:
            check_files(check, name, [write_docs(folder / f"{name}.spacy", docs)], lang)
    return check.report()


def check_files(
    check: CorpusCheck, name: str, paths: Sequence[Path], lang: str = "zh", format: str = "auto"
) -> None:
    """Add files to a check."""
    make = DocMaker(lambda: spacy.blank(lang))
    check.add(name, read(paths, make, format=format), make)


def found(report: CorpusReport, code: str) -> List[Finding]:
    """The findings of a kind."""
    return [finding for finding in report.findings if finding.code == code]


def codes(report: CorpusReport) -> List[str]:
    """The codes of all findings, in order, but of `few_docs`, which these small corpora always are."""
    return [finding.code for finding in report.findings if finding.code != "few_docs"]
