"""What an exported pipeline says beside the one that it was made of: a gate before anything is written."""

import json
from dataclasses import dataclass
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple, cast

import numpy
from numpy.typing import NDArray
from spacy.language import Language
from spacy.tokens import Doc, Span
from spacy.training import Example
from spacy.util import minibatch

from spacy_crf_ner.evaluation.calibration import judge, reliability
from spacy_crf_ner.evaluation.predictions import pipe_through
from spacy_crf_ner.evaluation.scores import score
from spacy_crf_ner.ner.component import CRFEntityRecognizer

Entities = List[Tuple[int, int, str]]

TOLERANCE = 1e-4
"""How far a potential in full precision may be from torch's, in nats."""
N_WORST = 10


@dataclass(frozen=True)
class Reading:
    """What a pipeline says of gold docs.

    entities (List[Entities]): Of each doc, as the recognizer has set them.
    annotation (List[str]): Of each doc all that the pipeline has set.
    emissions (List[NDArray]): Of each doc those of all recognizers, flat.
    crf (List[NDArray]): Start, transitions and end of each recognizer.
    f (Optional[float]): spaCy's F1 of entities; None without gold entities.
    ece (Optional[float]): The expected calibration error; None without predictions.
    """

    entities: List[Entities]
    annotation: List[str]
    emissions: List[NDArray[Any]]
    crf: List[NDArray[Any]]
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
    n_alike (int): How many in which all pipes have set the same.
    difference (float): The largest of a potential, in nats.
    loss (Optional[float]): Points of F1 that are lost, negative if it gains; None where there are none to lose.
    worst (List[Deviation]): The docs with other entities, most of them first, then those with other annotation,
        then those with other potentials.
    """

    n_docs: int
    n_identical: int
    n_alike: int
    difference: float
    loss: Optional[float]
    worst: List[Deviation]

    @property
    def is_exact(self) -> bool:
        """Whether it may be called the same pipeline."""
        return self.n_identical == self.n_alike == self.n_docs and self.difference <= TOLERANCE


def read(nlp: Language, name: str, examples: Sequence[Example]) -> Reading:
    """Let a pipeline read gold docs.

    nlp (Language): The pipeline.
    name (str): Its recognizer that is judged. The potentials of others are read, too.
    examples (Sequence[Example]): The gold docs. Their predicted docs are left as they are.
    RETURNS (Reading): What it says.
    """
    judged: List[Example] = []
    scored: List[List[Tuple[Span, float]]] = []
    annotation: List[str] = []
    emissions: List[NDArray[Any]] = []
    crf: Dict[str, Sequence[NDArray[Any]]] = {}
    for batch in minibatch(examples, nlp.batch_size):
        docs = [nlp.make_doc(example.reference.text) for example in batch]
        copies: List[Doc] = []
        found: List[List[NDArray[Any]]] = [[] for _ in docs]
        for component, pipe in nlp.pipeline:
            if not isinstance(pipe, CRFEntityRecognizer):
                docs = pipe_through(nlp, [component], docs)
                continue
            potentials = pipe.predict(docs)
            for of_doc, x in zip(found, potentials.by_doc(), strict=True):
                of_doc.append(numpy.array(x).ravel())
            crf[component] = cast(Any, potentials.arrays[1:])
            if component == name:
                scored += pipe.decode(docs, potentials).scored_entities()
            pipe.set_annotations(docs, potentials)
            if component == name:
                # Pipes behind it may set others.
                copies = [doc.copy() for doc in docs]
        judged += [Example(doc, example.reference) for doc, example in zip(copies, batch, strict=True)]
        emissions += map(numpy.concatenate, found)
        annotation += map(_annotation, docs)
        for doc in (*docs, *copies):
            # The vectors of all docs at once would fill the memory; `scored` holds the docs, too.
            doc.tensor = numpy.zeros((0,), dtype="float32")
            doc.user_data.clear()
    outcomes = judge(judged, scored)
    return Reading(
        entities=[[(ent.start, ent.end, ent.label_) for ent in example.predicted.ents] for example in judged],
        annotation=annotation,
        emissions=emissions,
        crf=[array for arrays in crf.values() for array in arrays],
        f=score(judged).spacy["ents_f"],
        ece=reliability(outcomes.scores, outcomes.correct).ece if outcomes.scores else None,
    )


def _annotation(doc: Doc) -> str:
    """All that pipes have set, but for how probable it is."""
    said = doc.to_json()
    likely = sorted(label for label, value in doc.cats.items() if value >= 0.5)
    said["cats"] = [max(doc.cats, key=lambda label: doc.cats[label], default=None), *likely]
    said["ids"] = [(ent.kb_id_, ent.ent_id_) for ent in doc.ents]
    return json.dumps(said)


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
    unlike = [a != b for a, b in zip(theirs.annotation, ours.annotation, strict=True)]
    deviations.sort(key=lambda x: (-len({*x.ours} ^ {*x.theirs}), -unlike[x.place], -x.difference))
    return Parity(
        n_docs=len(differences),
        n_identical=sum(x.ours == x.theirs for x in deviations),
        n_alike=unlike.count(False),
        difference=float(numpy.max(differences, initial=0.0)),
        loss=100 * (theirs.f - (ours.f or 0.0)) if theirs.f else None,
        worst=deviations[:N_WORST],
    )
