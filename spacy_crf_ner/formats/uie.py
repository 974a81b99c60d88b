"""The format `uie`: training data of PaddleNLP's UIE.

A record {"content", "result_list": [{"text", "start", "end"}], "prompt"} says where in a text is what a prompt
asks for: a label, as 人名, or a relation of an entity, as 张三的出生地.
Offsets count characters, and the end is exclusive.

Source: Lu et al. (2022), Unified Structure Generation for Universal Information Extraction.
"""

from typing import Any, Dict, Iterator, List, NamedTuple, Set, Tuple

from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.json_values import values
from spacy_crf_ner.formats.offsets import CHARACTERS, Offsets
from spacy_crf_ner.formats.records import Record, rest_missing
from spacy_crf_ner.formats.registry import check_bool
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.labels import LabeledSpan

RELATION_PROMPTS = "prompts of texts that ask for a relation or a class, left out"
_KEYS = ("content", "result_list", "prompt")


class _Text(NamedTuple):
    """What the records of a text say: its entities by their prompts, and what else the first of them holds."""

    first: Record
    spans: Dict[str, List[LabeledSpan]]
    meta: Dict[str, Any]


def read_uie(source: Source, make: DocMaker, *, complete: bool = False) -> Iterator[Doc]:
    """Read UIE's training data. It is held in memory whole, for the records of a text may be anywhere in the file.

    The prompt is the label. One that asks for a relation is left out and counted: "…的…" whose first part is in
    every text that is asked, or "… of …" whose last part is. So is one that asks for a class.

    source (Source): The file.
    make (DocMaker): Makes the docs.
    complete (bool): Whether a text has no entity of a label that it is not asked for. If not, it is not known,
        and the entity annotation outside the text's entities is missing; how often is counted.
    YIELDS (Doc): The docs, in the order in which their texts first appear.
    RAISES (FormatError): The file is not JSON of this kind, or an entity is not where the file says.
    """
    check_bool("complete", complete)
    texts: Dict[str, _Text] = {}
    askers: Dict[str, List[str]] = {}  # of each prompt, the texts that it is asked of
    classes: Set[str] = set()
    for value, line in values(source):
        record = Record(value, line, source)
        content, prompt = (record.take(value, key, str, "the record") for key in ("content", "prompt"))
        if not prompt or prompt.isspace():
            raise record.error('the "prompt" is empty', "write the label that is asked for")
        text = texts.setdefault(content, _Text(record, {}, record.meta(_KEYS)))
        results = record.check(value.get("result_list"), list, '"result_list"')
        spans, is_class = _spans(record, content, prompt, results)
        if is_class:
            classes.add(prompt)
        askers.setdefault(prompt, []).append(content)
        text.spans.setdefault(prompt, []).extend(spans)
    labels = {
        prompt for prompt, asked in askers.items() if prompt not in classes and not _asks_relation(prompt, asked)
    }
    for content, text in texts.items():
        if n_left := len(text.spans.keys() - labels):
            make.counts.notes[RELATION_PROMPTS] += n_left
        entities = [span for prompt, spans in text.spans.items() if prompt in labels for span in spans]
        doc = make.from_text(content, entities, source, text.first.line, meta=text.meta)
        yield doc if complete or labels <= text.spans.keys() else rest_missing(doc, make)


def _spans(record: Record, content: str, prompt: str, results: List[Any]) -> Tuple[List[LabeledSpan], bool]:
    """The entities of a record, and whether it gives a class, whose offsets are in the prompt."""
    offsets = Offsets(content, CHARACTERS)
    spans: List[LabeledSpan] = []
    is_class = False
    for result in results:
        start, end = (record.take(result, key, int, "a result") for key in ("start", "end"))
        if start < 0 and "[" in prompt:
            is_class = True
            continue
        spans.append(offsets.span(record, start, end, prompt))
        if result.get("text") is not None:
            mention = record.check(result["text"], str, 'the "text" of a result')
            offsets.check_mention(record, start, end, mention)
    return spans, is_class


def _asks_relation(prompt: str, asked: List[str]) -> bool:
    """Whether a prompt asks for a relation of an entity that all texts have which it is asked of."""
    subjects: Set[str] = set()
    for i in range(len(prompt)):
        if prompt.startswith("的", i):
            subjects.add(prompt[:i])
        elif prompt.startswith(" of ", i):
            subjects.add(prompt[i + len(" of ") :])
    return any(all(subject in content for content in asked) for subject in subjects - {""})
