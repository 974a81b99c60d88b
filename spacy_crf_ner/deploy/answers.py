"""What a pipeline says of texts, as plain data: what the service hands out."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Dict, List, Sequence, Tuple

from spacy.language import Language
from spacy.tokens import Doc, Span

from spacy_crf_ner.evaluation.predictions import pipe_through, require_enabled
from spacy_crf_ner.formats.offsets import CHARACTERS, UTF_16, units_before
from spacy_crf_ner.tagger.potentials import Potentials

Answer = Dict[str, Any]


@dataclass(frozen=True)
class Question:
    """What is asked of one text.

    text (str): The text.
    scores (bool): Whether the probability of each entity is wanted.
    k_best (int): How many ways to mark the text are wanted beside its entities.
    unit (str): What offsets count, `CHARACTERS` or `UTF_16`.
    """

    text: str
    scores: bool = False
    k_best: int = 0
    unit: str = CHARACTERS


class Answerer:
    """Answers questions together. What it is asked leaves nothing in memory (`Language.memory_zone`).

    nlp (Language): The pipeline. No other thread may use it at the same time.
    name (str): Its crf_ner, whose scores and alternatives are handed out.
    """

    def __init__(self, nlp: Language, name: str) -> None:
        self.nlp = nlp
        self._pipe: Any = nlp.get_pipe(name)
        require_enabled(nlp, name)
        active = nlp.pipe_names
        self._before = active[: active.index(name)]
        self._after = active[active.index(name) + 1 :]

    def __call__(self, questions: Sequence[Question]) -> List[Answer]:
        """Answer questions.

        questions (Sequence[Question]): The questions.
        RETURNS (List[Answer]): For each, "entities" and, where they were asked for, "k_best".
        """
        with self.nlp.memory_zone():
            return self._answer(questions)

    def _answer(self, questions: Sequence[Question]) -> List[Answer]:
        made = (self.nlp.make_doc(question.text) for question in questions)
        docs = pipe_through(self.nlp, self._before, made)
        potentials = self._pipe.predict(docs)
        scored: List[Dict[Tuple[int, int, str], float]] = [{} for _ in docs]
        if any(question.scores for question in questions):
            found = self._pipe.decode(docs, potentials).scored_entities()
            scored = [{_key(span): score for span, score in of_doc} for of_doc in found]
        alternatives = self._k_best(docs, questions, potentials)
        self._pipe.set_annotations(docs, potentials)
        answers = []
        docs = pipe_through(self.nlp, self._after, docs)
        for question, doc, scores, best in zip(questions, docs, scored, alternatives, strict=True):
            places = _Places(question)
            answer: Answer = {"entities": [places.entity(ent, scores.get(_key(ent))) for ent in doc.ents]}
            if question.k_best:
                answer["k_best"] = [
                    {"probability": way.probability, "entities": [places.entity(ent) for ent in way.entities]}
                    for way in best
                ]
            answers.append(answer)
        return answers

    def _k_best(self, docs: Sequence[Doc], questions: Sequence[Question], potentials: Potentials) -> List[Any]:
        """Those that ask for as many go together."""
        groups: Dict[int, List[int]] = defaultdict(list)
        for i, question in enumerate(questions):
            if question.k_best:
                groups[question.k_best].append(i)
        found: List[Any] = [[] for _ in docs]
        for k, places in groups.items():
            decoding = self._pipe.decode([docs[i] for i in places], potentials.of_docs(places))
            for i, best in zip(places, decoding.k_best(k), strict=True):
                found[i] = best
        return found


class _Places:
    """Entities as plain data, their offsets in the unit that was asked for."""

    def __init__(self, question: Question) -> None:
        self._scores = question.scores
        wide = question.unit == UTF_16 and not question.text.isascii()
        self._units = units_before(question.text) if wide else None

    def entity(self, span: Span, score: Any = None) -> Dict[str, Any]:
        start, end = span.start_char, span.end_char
        if self._units is not None:
            start, end = self._units[start], self._units[end]
        found: Dict[str, Any] = {"start": start, "end": end, "text": span.text, "label": span.label_}
        # An entity of another pipe has no probability.
        return {**found, "score": score} if self._scores and score is not None else found


def _key(span: Span) -> Tuple[int, int, str]:
    return span.start, span.end, span.label_
