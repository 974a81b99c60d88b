"""How the recognizer learns: from gold annotation, from what it was before, and from another recognizer."""

from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from spacy import util
from spacy.pipeline import TrainablePipe
from spacy.tokens import Doc
from spacy.training import Example, validate_examples
from thinc.api import Model, Optimizer, set_dropout_rate

from spacy_crf_ner.ner import lattices, listeners
from spacy_crf_ner.ner.distillation import TEMPERATURE, Lesson, check_same_tokens
from spacy_crf_ner.ner.losses import fit_temperature, negative_log_likelihood
from spacy_crf_ner.ner.pipe_cfg import checked_temperature
from spacy_crf_ner.ner.rehearsal import Teacher, keeping_gradients
from spacy_crf_ner.tagger.potentials import Potentials
from spacy_crf_ner.training.protocols import UpdateCount


class LearningRecognizer(TrainablePipe):
    """A `CRFEntityRecognizer` as far as it learns.

    cfg (Dict[str, Any]): "labels", "untrained" (the inactive labels) and "temperature".
    model (Model[List[Doc], Potentials]): The model that yields the CRF's potentials.
    """

    cfg: Dict[str, Any]
    model: Model[List[Doc], Potentials]

    def __init__(self) -> None:
        self._seen_labels: Set[str] = set()  # of the entities in the updates since the last step
        self._updates = UpdateCount()
        self._teacher: Optional[Teacher] = None
        self.lesson: Optional[Lesson] = None
        """What is learnt from a teacher in updates; it is not saved."""

    @property
    def labels(self) -> Tuple[str, ...]:
        """The labels, in the order of the model's tags."""
        return tuple(self.cfg["labels"])

    @property
    def inactive_labels(self) -> Tuple[str, ...]:
        """Labels that were added after training, without an entity in an update since: they are not predicted."""
        return tuple(self.cfg["untrained"])

    @property
    def temperature(self) -> float:
        """By what the model's potentials are divided before probabilities are computed; see `fit_temperature`."""
        # As many digits as spaCy's JSON keeps, which reads the last bit wrongly.
        return float(f"{self.cfg['temperature']:.6g}")

    @temperature.setter
    def temperature(self, value: float) -> None:
        self.cfg["temperature"] = checked_temperature(value)

    def fit_temperature(self, examples: Iterable[Example], *, batch_size: int = 256) -> float:
        """Fit the temperature by the likelihood of gold annotation, so that probabilities say how often they are
        right. It changes no prediction but through `min_score` and the gazetteer's bonuses.

        What is set on the predicted docs, and the gazetteer, have no part in the fit. Labels that are not
        predicted yet have none either: gold entities of theirs count as missing annotation.

        examples (Iterable[Example]): Held-out examples; the predicted docs as the preceding components left them.
        batch_size (int): Docs that the model predicts at a time.
        RETURNS (float): The temperature, which is set as well.
        RAISES (ValueError): There is no annotation to fit to, or no temperature fits.
        """
        batches = []
        for batch in util.minibatch(examples, batch_size):
            docs = [example.predicted for example in batch]
            allowed = [lattices.free_lattice(doc, self.labels, self.inactive_labels) for doc in docs]
            gold = [lattices.gold_lattice(example, self.labels) for example in batch]
            for free, known in zip(allowed, gold):
                known &= free
                known |= free & ~known.any(axis=1, keepdims=True)
            batches.append((self.predict(docs), gold, allowed))
        if not any((known != free).any() for _, gold, allowed in batches for known, free in zip(gold, allowed)):
            raise ValueError("no token of the examples is annotated: there is nothing to fit a temperature to")
        self.temperature = fit_temperature(batches)
        return self.temperature

    def get_loss(self, examples: Iterable[Example], potentials: Potentials) -> Tuple[float, Potentials]:
        """The negative log-likelihood of the gold annotation per token, and its gradient.

        Tokens whose annotation is missing or does not align are marginalised over: they may have any tag. Where
        there is a `lesson`, its share of the loss is the divergence from the teacher.

        examples (Iterable[Example]): The batch.
        potentials (Potentials): What the model returned for the predicted docs.
        RETURNS (Tuple[float, Potentials]): The loss in nats per token of the batch, and its derivative by each
            potential.
        RAISES (ValueError): A gold label is not among the labels, or the potentials are not finite numbers.
        """
        examples = list(examples)
        validate_examples(examples, "CRFEntityRecognizer.get_loss")
        gold = [lattices.gold_lattice(example, self.labels) for example in examples]
        loss, gradient = negative_log_likelihood(potentials, gold)
        if self.lesson is None:
            return loss, gradient
        docs = [example.predicted for example in examples]
        taught, d_taught = self.lesson.divergence(docs, potentials, self.labels)
        return loss + self.lesson.alpha * (taught - loss), gradient.plus(d_taught, self.lesson.alpha)

    def update(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
    ) -> Dict[str, float]:
        """Learn from a batch of examples: `TrainablePipe.update`, which calls `get_loss`.

        examples (Iterable[Example]): The batch.
        drop (float): The dropout rate.
        sgd (Optional[Optimizer]): The optimizer; without it, the parameters wait for `finish_update`.
        losses (Optional[Dict[str, float]]): Updated with the loss, under the component's name.
        RETURNS (Dict[str, float]): The updated losses.
        RAISES (ValueError): The model listens to a pipe that neither learns from the batch nor has run over it.
        """
        examples = list(examples)
        validate_examples(examples, "CRFEntityRecognizer.update")
        if listeners.read_docs_in_training(self.model):
            # spaCy's listener takes an empty doc for one that its upstream pipe has not seen.
            examples = [example for example in examples if len(example.predicted)]
            docs = [example.predicted for example in examples]
            listeners.require_output(self.name, self.model, docs, training=True)
        if self.inactive_labels:
            self._seen_labels.update(ent.label_ for example in examples for ent in example.reference.ents)
        try:
            losses = super().update(examples, drop=drop, losses=losses)
        finally:
            listeners.forget_batch(self.model)
        if any(len(example.predicted) for example in examples):
            self._updates.since_step += 1
            if sgd not in (None, False):
                self.finish_update(sgd)
        return losses

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the parameters. A label that was added to the trained pipe, and of which the updates since the
        last step have shown an entity, is predicted from now on.

        sgd (Optimizer): The optimizer. If it averages (`AveragesUpdates`), it is told over how many updates.
        """
        self._updates.report(sgd)
        super().finish_update(sgd)
        self.cfg["untrained"] = [label for label in self.inactive_labels if label not in self._seen_labels]
        self._seen_labels.clear()

    @property
    def _rehearsal_model(self) -> Optional[Model[List[Doc], Potentials]]:
        """The model as it was when `nlp.resume_training` put a copy of it here."""
        return self._teacher.model if self._teacher else None

    @_rehearsal_model.setter
    def _rehearsal_model(self, model: Optional[Model[List[Doc], Potentials]]) -> None:
        self._teacher = None if model is None else Teacher(model, self.inactive_labels)

    def rehearse(
        self,
        examples: Iterable[Example],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
        **config: Any,
    ) -> Dict[str, float]:
        """Hold on to what was learnt: step towards what the model thought when `nlp.resume_training` was called.

        `Language.rehearse` steps one pipe a call, and any pipe that can be trained may be the one: beside others,
        call ``nlp.rehearse(examples, exclude=others)`` or this method.

        The loss is the Kullback-Leibler divergence of the tag sequences' distribution from the earlier model's.
        Labels that were added since, or had not been trained, have no part in it.

        examples (Iterable[Example]): The batch; its annotation is not looked at.
        drop (float): The dropout rate.
        sgd (Optional[Optimizer]): The optimizer; without it, the parameters wait for `finish_update`.
        losses (Optional[Dict[str, float]]): Updated with the loss in nats per token, under the component's name.
        RETURNS (Dict[str, float]): The updated losses.
        RAISES (ValueError): `nlp.resume_training` has not been called, or the component listens to another's
            embedding, which spaCy does not compute in a rehearsal.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        examples = list(examples)
        validate_examples(examples, "CRFEntityRecognizer.rehearse")
        if self._teacher is None:
            raise ValueError(
                f"component '{self.name}' has no earlier model to rehearse: call nlp.resume_training() before the "
                "first update"
            )
        listeners.refuse_listeners(self.name, self.model, "rehearsal")
        docs = [example.predicted for example in examples]
        if not any(len(doc) for doc in docs):
            return losses
        set_dropout_rate(self.model, drop)
        potentials, backprop = self.model.begin_update(docs)
        loss, gradient = self._teacher.divergence(docs, self.labels, potentials)
        backprop(gradient)
        if sgd is not None:
            self._updates.report(sgd)
            self.model.finish_update(keeping_gradients(sgd))
        losses[self.name] += loss
        return losses

    def distill(
        self,
        teacher_pipe: "LearningRecognizer",
        teacher_docs: Iterable[Doc],
        student_docs: Iterable[Doc],
        *,
        drop: float = 0.0,
        sgd: Optional[Optimizer] = None,
        losses: Optional[Dict[str, float]] = None,
        temperature: float = TEMPERATURE,
    ) -> Dict[str, float]:
        """Learn how probable another recognizer holds each way to mark a batch of texts. The loss is the exact
        Kullback-Leibler divergence of the tag sequences' distribution from the teacher's; see `ner.distillation`.

        teacher_pipe (CRFEntityRecognizer): The teacher. Labels are matched by name; those that it does not have,
            or does not predict, have no part in the loss.
        teacher_docs (Iterable[Doc]): The batch, as the components before the teacher left it.
        student_docs (Iterable[Doc]): The same texts for the student, with the same tokens.
        drop (float): The dropout rate.
        sgd (Optional[Optimizer]): The optimizer; without it, the parameters wait for `finish_update`.
        losses (Optional[Dict[str, float]]): Updated with the loss in nats per token, under the component's name.
        temperature (float): By what the potentials of both are divided.
        RETURNS (Dict[str, float]): The updated losses.
        RAISES (ValueError): The student lacks a label of the teacher, the tokens differ, or the student listens to
            another's embedding, which nothing computes here.
        """
        losses = {} if losses is None else losses
        losses.setdefault(self.name, 0.0)
        listeners.refuse_listeners(self.name, self.model, "distillation")
        teacher_docs, docs = list(teacher_docs), list(student_docs)
        check_same_tokens(teacher_docs, docs)
        if not any(len(doc) for doc in docs):
            return losses
        lesson = Lesson(
            teacher_pipe.labels,
            teacher_pipe.inactive_labels,
            lambda _: teacher_pipe.predict(teacher_docs),
            temperature=temperature,
        )
        set_dropout_rate(self.model, drop)
        potentials, backprop = self.model.begin_update(docs)
        loss, gradient = lesson.divergence(docs, potentials, self.labels)
        backprop(gradient)
        self._seen_labels.update({*teacher_pipe.labels} - {*teacher_pipe.inactive_labels})
        self._updates.since_step += 1
        if sgd is not None:
            self.finish_update(sgd)
        losses[self.name] += loss
        return losses
