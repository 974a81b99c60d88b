"""What an exported pipeline says beside the one that it was made of: a gate before anything is written."""

from dataclasses import dataclass
from typing import Any, List, NamedTuple, Optional, Sequence, Tuple

import numpy
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example
from spacy.util import minibatch

from spacy_crf_ner.evaluation.calibration import judge, reliability
from spacy_crf_ner.evaluation.scores import score

Entities = List[Tuple[int, int, str]]

TOLERANCE = 1e-4
"""How far a potential in full precision may be from torch's, in nats."""
N_WORST = 10


@dataclass(frozen=True)
class Reading:
    """What a pipeline says of gold docs.

    entities (List[Entities]): Of each doc.
    emissions (List[NDArray]): *Shape:* (n_tokens, n_tags) each.
    crf (Tuple[NDArray, ...]): Start, transitions and end.
    f (Optional[float]): spaCy's F1 of entities; None without gold entities.
    ece (Optional[float]): The expected calibration error; None without predictions.
    """

    entities: List[Entities]
    emissions: List[NDArray[Any]]
    crf: Tuple[NDArray[Any], ...]
    f: Optional[float]
    ece: Optional[float]


class Deviation(NamedTuple):
    """A doc of which two pipelines say something else.

    place (int): Which doc.
    difference (float): The largest of a potential, in nats.
    ours, theirs (Entities): Of the exported pipeline, and of the other.
    """

    place: int
    difference: float
    ours: Entities
    theirs: Entities


@dataclass(frozen=True)
class Parity:
    """How an exported pipeline compares.

    n_docs, n_identical (int): How many docs, and how many with the same entities.
    difference (float): The largest of a potential, in nats.
    loss (Optional[float]): Points of F1 that are lost, negative if it gains; None where there are none to lose.
    worst (List[Deviation]): The docs with other entities, most of them first, then those with other potentials.
    """

    n_docs: int
    n_identical: int
    difference: float
    loss: Optional[float]
    worst: List[Deviation]

    @property
    def is_exact(self) -> bool:
        """Whether it may be called the same pipeline."""
        return self.n_identical == self.n_docs and self.difference <= TOLERANCE


def read(nlp: Language, name: str, examples: Sequence[Example]) -> Reading:
    """Let a pipeline read gold docs.

    nlp (Language): The pipeline.
    name (str): Its crf_ner.
    examples (Sequence[Example]): The gold docs. Their predicted docs are left as they are.
    RETURNS (Reading): What it says.
    """
    pipe: Any = nlp.get_pipe(name)
    others = nlp.component_names[nlp.component_names.index(name) :]
    judged: List[Example] = []
    emissions: List[NDArray[Any]] = []
    scored = []
    crf: Tuple[NDArray[Any], ...] = ()
    for batch in minibatch(examples, nlp.batch_size):
        made = (nlp.make_doc(example.reference.text) for example in batch)
        docs: List[Doc] = list(nlp.pipe(made, disable=others))
        potentials = pipe.predict(docs)
        scored += pipe.decode(docs, potentials).scored_entities()
        pipe.set_annotations(docs, potentials)
        emissions += [numpy.array(x) for x in potentials.by_doc()]
        for doc in docs:
            # The vectors of all docs at once would fill the memory.
            doc.tensor = numpy.zeros((0,), dtype="float32")
            doc.user_data.clear()
        crf = potentials.arrays[1:]
        judged += [Example(doc, example.reference) for doc, example in zip(docs, batch, strict=True)]
    outcomes = judge(judged, scored)
    return Reading(
        entities=[[(ent.start, ent.end, ent.label_) for ent in example.predicted.ents] for example in judged],
        emissions=emissions,
        crf=crf,
        f=score(judged).spacy["ents_f"],
        ece=reliability(outcomes.scores, outcomes.correct).ece if outcomes.scores else None,
    )


def compare(theirs: Reading, ours: Reading) -> Parity:
    """Compare an exported pipeline with what it was made of.

    theirs (Reading): What the pipeline said that it was made of.
    ours (Reading): What it says itself, of the same docs.
    """
    shared = numpy.max([numpy.abs(a - b).max() for a, b in zip(theirs.crf, ours.crf, strict=True)], initial=0.0)
    differences = [
        float(numpy.maximum(numpy.abs(a - b).max(initial=0.0), shared))
        for a, b in zip(theirs.emissions, ours.emissions, strict=True)
    ]
    deviations = [
        Deviation(i, difference, found, expected)
        for i, (difference, found, expected) in enumerate(zip(differences, ours.entities, theirs.entities))
    ]
    deviations.sort(key=lambda x: (-len({*x.ours} ^ {*x.theirs}), -x.difference))
    return Parity(
        n_docs=len(differences),
        n_identical=sum(x.ours == x.theirs for x in deviations),
        difference=float(numpy.max(differences, initial=0.0)),
        loss=100 * (theirs.f - (ours.f or 0.0)) if theirs.f else None,
        worst=deviations[:N_WORST],
    )
