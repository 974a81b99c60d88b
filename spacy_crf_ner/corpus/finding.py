"""A finding: something in a corpus that will hurt, or that is good to know."""

from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Dict, FrozenSet, Iterable, List, Mapping, NamedTuple, Optional

from spacy_crf_ner.corpus.stats import Case, Tally

NEVER = "none"


class Severity(str, Enum):
    """How bad a finding is.

    ERROR: Training or evaluation on this data means nothing, or not what it seems to.
    WARNING: It costs accuracy, or flatters it.
    INFO: Good to know.
    """

    ERROR = "error"
    WARNING = "warning"
    INFO = "info"


class Kind(NamedTuple):
    """A kind of finding: its severity, and what to do about it."""

    severity: Severity
    advice: str


_E, _W, _I = Severity.ERROR, Severity.WARNING, Severity.INFO

KINDS: Dict[str, Kind] = {
    "no_entities": Kind(_E, "check the conversion that wrote it, and its tag column"),
    "label_not_in_train": Kind(_E, "no model can predict them: add training examples, or rename or remove them"),
    "empty_label": Kind(_E, "give each entity a label: without one it is read as unknown annotation"),
    "whitespace_entities": Kind(_E, "remove them: there is nothing that a model could see"),
    "changed_texts": Kind(
        _E, "spaCy cannot train on them: write these texts as the tokenizer does, or choose another --lang"
    ),
    "leaked_docs": Kind(_W, "remove them from one of the two, or the scores on the later one flatter"),
    "contradictions": Kind(_W, "decide for one: a model learns both halfway, and is wrong once in any case"),
    "contradictions_across": Kind(_W, "decide for one: what was learned of the one is wrong in the other"),
    "duplicate_docs": Kind(_W, "keep one of each, unless they shall weigh more in training and in the scores"),
    "misaligned_entities": Kind(
        _W, "no model can find them exactly, and training leaves them out: correct their offsets, or the tokenizer"
    ),
    "misaligned_tokens": Kind(
        _W,
        "a pipeline sees other tokens than the annotator did: give the --lang of the training, or let "
        "`crf convert` make the docs",
    ),
    "whitespace_edges": Kind(_W, "trim their offsets"),
    "punctuation_edges": Kind(_W, "trim those that do not belong to the name, and do so everywhere alike"),
    "crossed_sentences": Kind(_W, "correct the sentences or the entities"),
    "overlapping_entities": Kind(
        _W, "only the longest are trained on and scored; `crf convert --spans-key NAME` keeps all in doc.spans"
    ),
    "missing_annotation": Kind(_W, "annotate them, unless the annotation is meant to be partial"),
    "few_examples": Kind(_W, "annotate more, or merge them into another label"),
    "no_negative_examples": Kind(_W, "add texts without them: a model must also learn where there is none"),
    "very_few_docs": Kind(_W, "annotate more: with so few, scores are chance for the most part"),
    "empty_docs": Kind(_W, "remove them; they are skipped"),
    "unknown_to_encoder": Kind(
        _W, "replace them by characters that it knows, or choose an encoder that knows them"
    ),
    "unknown_to_vectors": Kind(_W, "a model has to learn them only from the examples: use vectors that have them"),
    "duplicate_entities": Kind(_I, "they count once"),
    "reader_notes": Kind(_I, "look at a few, to see whether they were read as they were meant"),
    "long_docs": Kind(
        _I, "nothing is cut: they are read in windows that overlap, which takes longer and hides what is far away"
    ),
    "ambiguous_forms": Kind(_I, "read some: what is not a matter of context is a slip of the annotation"),
    "label_not_in_dev": Kind(_I, "they are trained, but no score tells how well"),
    "few_docs": Kind(_I, "more of them would help most"),
    "no_dev": Kind(_I, "give DEV too, to look for what both have in common"),
}
"""All kinds of findings, by code, and in the order in which they are told."""


@dataclass(frozen=True)
class Finding:
    """Something that was found.

    code (str): Its kind, one of `KINDS`.
    split (Optional[str]): The split that it is about; None: the corpus.
    count (int): How many there are of what the message says.
    message (str): What is the matter.
    types (Dict[str, int]): The count by label, where it is about entities.
    cases (List[Case]): Some of them.
    """

    code: str
    split: Optional[str]
    count: int
    message: str
    types: Dict[str, int] = field(default_factory=dict)
    cases: List[Case] = field(default_factory=list)

    @property
    def severity(self) -> Severity:
        """How bad it is."""
        return KINDS[self.code].severity

    @property
    def advice(self) -> str:
        """What to do about it."""
        return KINDS[self.code].advice

    @classmethod
    def of(cls, code: str, split: Optional[str], tally: Tally, message: str) -> "Finding":
        """A finding about what was tallied.

        code, split, message: As above.
        tally (Tally): The count, the labels and the cases.
        RETURNS (Finding): The finding.
        """
        return cls(code, split, tally.count, message, dict(sorted(tally.types.items())), list(tally.cases))

    def to_json(self) -> Dict[str, Any]:
        """The finding, for a JSON file."""
        return {
            "code": self.code,
            "severity": self.severity.value,
            "split": self.split,
            "count": self.count,
            "message": self.message,
            "advice": self.advice,
            "types": self.types,
            "examples": [case._asdict() for case in self.cases],
        }


def parse_fail_on(value: str) -> FrozenSet[str]:
    """Read which findings shall make a check fail.

    value (str): "none", or names with commas between: "error", "warning" (errors too), or codes.
    RETURNS (FrozenSet[str]): The codes.
    RAISES (ValueError): There is no such name.
    """
    codes = {kind: {code for code in KINDS if KINDS[code].severity is kind} for kind in Severity}
    levels: Mapping[str, Iterable[str]] = {
        NEVER: (),
        "error": codes[Severity.ERROR],
        "warning": codes[Severity.ERROR] | codes[Severity.WARNING],
    }
    chosen: FrozenSet[str] = frozenset()
    for name in (name.strip() for name in value.split(",")):
        if name not in levels and name not in KINDS:
            raise ValueError(
                f"--fail-on {value}: there is no {name!r}; choose from {', '.join((*levels, *KINDS))}, "
                "with commas between"
            )
        chosen |= frozenset(levels.get(name, (name,)))
    return chosen
