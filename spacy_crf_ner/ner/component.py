"""The component behind the factory `crf_ner`: named-entity recognition by a constrained linear-chain CRF."""

from itertools import islice
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from spacy.errors import Errors
from spacy.language import Language
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_get_examples
from spacy.util import check_lexeme_norms
from spacy.vocab import Vocab
from thinc.api import Model

from spacy_crf_ner.labels import BioTags
from spacy_crf_ner.messages import show_path
from spacy_crf_ner.ner import lattices, listeners
from spacy_crf_ner.ner.decoding import Decoding, Hypothesis, save_scores
from spacy_crf_ner.ner.distillation import Lesson, tags_of_teacher
from spacy_crf_ner.ner.gazetteer import Gazetteer
from spacy_crf_ner.ner.learning import LearningRecognizer
from spacy_crf_ner.ner.serialization import SavedParts, pack, parts_from_bytes, parts_from_disk
from spacy_crf_ner.saved_state import AGAIN, SavedStateError, explained, unpack_model
from spacy_crf_ner.tagger.potentials import Potentials
from spacy_crf_ner.training.protocols import UpdateCount


class CRFEntityRecognizer(LearningRecognizer):
    """Marks entities with the best legal tag sequence of a linear-chain CRF.

    The model's tags are the `BioTags` of `labels`. Whitespace tokens are not part of the sequence: an entity may
    run over them, but neither begins nor ends there. Phrases that are known beforehand are in `gazetteer`.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[List[Doc], Potentials],
        name: str = "crf_ner",
        *,
        save_scores: bool = False,
        min_score: float = 0.0,
        phrase_matcher_attr: str = "ORTH",
        scorer: Optional[Callable] = get_ner_prf,
    ) -> None:
        """Initialize the recognizer.

        vocab (Vocab): The shared vocabulary.
        model (Model[List[Doc], Potentials]): The model that yields the CRF's potentials.
        name (str): The component instance's name, under which its loss is reported and its scores are saved.
        save_scores (bool): Whether to save the probability of each entity in `doc.spans[name].attrs["scores"]`.
        min_score (float): Entities of a lower probability are left out.
        phrase_matcher_attr (str): The token attribute by which the gazetteer compares phrases.
        scorer (Optional[Callable]): The scoring method.
        RAISES (ValueError): `min_score` is not a probability, or phrases cannot be compared by the attribute.
        """
        super().__init__()
        if not 0.0 <= min_score <= 1.0:
            raise ValueError(f"min_score = {min_score}, but it is a probability, from 0 to 1")
        self.vocab = vocab
        self.model = model
        self.name = name
        self.save_scores = save_scores
        self.min_score = min_score
        self.scorer = scorer
        self.gazetteer = Gazetteer(vocab, phrase_matcher_attr)
        # "untrained" are the inactive labels: the name that saved pipes have for them.
        self.cfg: Dict[str, Any] = {"labels": [], "untrained": [], "temperature": 1.0}

    @property
    def label_data(self) -> Tuple[str, ...]:
        """The labels as `initialize` takes them; what `spacy init labels` writes."""
        return self.labels

    def add_label(self, label: str) -> int:
        """Add a label. A model that is built grows by its two tags.

        This changes no prediction. The new label is predicted once an update has shown an entity of it.

        label (str): The label, such as "PER".
        RETURNS (int): 0 if the label is there already, otherwise 1.
        RAISES (ValueError): The label is not a string, or empty.
        """
        if not isinstance(label, str):
            raise ValueError(Errors.E187)
        if not label:
            raise ValueError("a label must not be empty: spaCy takes the empty label for 'no entity'")
        if label in self.labels:
            return 0
        self.cfg["labels"].append(label)
        self.vocab.strings.add(label)
        if self.model.get_ref("output_layer").has_dim("nO"):
            self.cfg["untrained"].append(label)
            self.set_output(BioTags(len(self.labels)).size)
        return 1

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
        labels: Optional[Sequence[str]] = None,
        gazetteer: Optional[Iterable[Mapping[str, Any]]] = None,
        lesson: Optional[Lesson] = None,
    ) -> None:
        """Set the labels, sorted, and build the model for them.

        get_examples (Callable[[], Iterable[Example]]): Returns a representative sample of gold examples.
        nlp (Optional[Language]): The pipeline.
        labels (Optional[Sequence[str]]): The labels, as `spacy init labels` writes them; without them,
            they are read off the examples. Labels added before stay in either case.
        gazetteer (Optional[Iterable[Mapping[str, Any]]]): Phrases that take the place of those in `gazetteer`, as
            `Gazetteer.add_patterns` takes them: what `srsly.read_jsonl.v1` reads.
        lesson (Optional[Lesson]): What updates learn from a teacher, beside the gold annotation:
            `spacy-crf-ner.Lesson.v1`.
        RAISES (ValueError): There is no label or no example, a label is not a string, a phrase is refused, or the
            teacher has a label that is not among the labels.
        """
        validate_get_examples(get_examples, "CRFEntityRecognizer.initialize")
        check_lexeme_norms(self.vocab, "crf_ner")
        if labels is None:
            labels = [ent.label_ for example in get_examples() for ent in example.reference.ents]
        elif isinstance(labels, (str, dict)):
            raise ValueError(f"labels must be a list of strings, not {labels!r}")
        found = {*self.labels, *labels}
        if not all(isinstance(label, str) and label for label in found):
            raise ValueError(f"labels must be non-empty strings, not {sorted(map(repr, found))}")
        phrases = self.gazetteer
        if gazetteer is not None:
            if nlp is None:
                raise ValueError("phrases need a tokenizer: give initialize() the pipeline as well, nlp=nlp")
            phrases = Gazetteer(self.vocab, phrases.attr)
            phrases.add_patterns(gazetteer, nlp.make_doc)
        if unknown := set(phrases.labels) - found:
            raise ValueError(
                f"the gazetteer names the labels {sorted(unknown)}, which are not among the component's "
                f"{sorted(found)}; add them with add_label() before, or leave their phrases out"
            )
        if lesson is not None:
            tags_of_teacher(lesson.labels, sorted(found))
        self.lesson = lesson
        self.gazetteer = phrases
        self.cfg.update(labels=sorted(found), untrained=[], temperature=1.0)
        self._updates = UpdateCount()
        self._teacher = None
        for label in self.labels:
            self.vocab.strings.add(label)
        self._require_labels()
        sample = [example.predicted for example in islice(get_examples(), 10)]
        if not sample:
            raise ValueError(Errors.E923.format(name=self.name))
        # The model may have been built for fewer labels before.
        self.set_output(BioTags(len(self.labels)).size)
        self.model.initialize(X=sample)

    def predict(self, docs: Iterable[Doc]) -> Potentials:
        """Compute the CRF's potentials of a batch of docs, without modifying them.

        docs (Iterable[Doc]): The docs.
        RETURNS (Potentials): The emissions of all docs, and the CRF's; `set_annotations` decodes them.
        RAISES (ValueError): The model listens to a pipe that has not run over the docs.
        """
        docs = list(docs)
        if not any(len(doc) for doc in docs):
            return Potentials.empty(self.model.ops, len(docs), BioTags(len(self.labels)).size)
        self._require_labels()
        listeners.require_output(self.name, self.model, docs)
        return self.model.predict(docs)

    def set_annotations(self, docs: Iterable[Doc], potentials: Potentials) -> None:
        """Decode the potentials and write `doc.ents`, and the scores if they are to be saved.

        What is set on a doc already stays, and the best sequence is sought around it: entities, blocked tokens,
        and where annotation is missing in places also the O of the others (`Doc.set_ents`). No entity runs over
        the start of a sentence, where sentences are known.

        docs (Iterable[Doc]): The docs.
        potentials (Potentials): What `predict` returned for them.
        RAISES (ValueError): The potentials are not finite numbers or of other labels, or a phrase of the gazetteer
            is of an unknown label.
        """
        docs = list(docs)
        decoding = self.decode(docs, potentials)
        scores: List[List[float]] = [[] for _ in docs]
        if self.save_scores or self.min_score > 0.0:
            scored = [
                [(span, score) for span, score in found if score >= self.min_score]
                for found in decoding.scored_entities()
            ]
            entities = [[span for span, _ in found] for found in scored]
            scores = [[score for _, score in found] for found in scored]
        else:
            entities = decoding.entities()
        for doc, found, saved in zip(docs, entities, scores):
            blocked = [doc[i : i + 1] for i in lattices.blocked_tokens(doc)]
            doc.set_ents([*doc.ents, *found], blocked=blocked, default="outside")
            if self.save_scores:
                save_scores(doc, self.name, dict(zip(found, saved)))

    def predict_scores(self, docs: Iterable[Doc]) -> List[List[Tuple[Span, float]]]:
        """The entities that the component would set, whatever `min_score` is, each with its probability.

        The probability is that the text has an entity with exactly this span and label, given what is set on the
        doc and in the gazetteer. The docs are not modified.

        docs (Iterable[Doc]): The docs, as the preceding components left them.
        RETURNS (List[List[Tuple[Span, float]]]): For each doc, entities in the order of their start.
        """
        docs = list(docs)
        return self.decode(docs, self.predict(docs)).scored_entities()

    def predict_kbest(self, docs: Iterable[Doc], k: int) -> List[List[Hypothesis]]:
        """The k most probable ways to mark each doc, without modifying it.

        docs (Iterable[Doc]): The docs, as the preceding components left them.
        k (int): How many, at least 1; there are fewer where fewer are possible.
        RETURNS (List[List[Hypothesis]]): For each doc, best first: the entities that would be set and the
            probability of all of them together.
        RAISES (ValueError): `k` is below 1, or the model's scores are not finite numbers.
        """
        docs = list(docs)
        return self.decode(docs, self.predict(docs)).k_best(k)

    def decode(self, docs: List[Doc], potentials: Potentials) -> Decoding:
        """Decode potentials without modifying the docs.

        docs (List[Doc]): The docs, as the preceding components left them.
        potentials (Potentials): What `predict` returned for them.
        RETURNS (Decoding): Their entities, with scores and alternatives on request.
        """
        return Decoding(
            docs,
            potentials,
            labels=self.labels,
            inactive_labels=self.inactive_labels,
            gazetteer=self.gazetteer,
            temperature=self.temperature,
        )

    def to_bytes(self, *, exclude: Iterable[str] = ()) -> bytes:
        """Serialize the pipe, its gazetteer included. The arguments are those of `TrainablePipe.to_bytes`."""
        exclude = tuple(exclude)
        gazetteer = None if "gazetteer" in exclude else self.gazetteer.to_bytes()
        return pack(super().to_bytes(exclude=exclude), gazetteer)

    def from_bytes(self, bytes_data: bytes, *, exclude: Iterable[str] = ()) -> "CRFEntityRecognizer":
        """Load what `to_bytes` wrote. The arguments are those of `TrainablePipe.from_bytes`.

        RAISES (SavedStateError): A part is missing or damaged, or does not fit another or the config; the message
            says which.
        """
        exclude = tuple(exclude)
        with explained(f"component '{self.name}'"):
            parts = parts_from_bytes(bytes_data, exclude)
            if parts.vocab is not None:
                self.vocab.from_bytes(parts.vocab, exclude=exclude)
            self._take(parts)
        return self

    def to_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> None:
        """Serialize the pipe to a directory, its gazetteer included. See `TrainablePipe.to_disk`."""
        exclude = tuple(exclude)
        super().to_disk(path, exclude=exclude)
        if "gazetteer" not in exclude:
            self.gazetteer.to_disk(Path(path) / "gazetteer")

    def from_disk(self, path: Union[str, Path], *, exclude: Iterable[str] = ()) -> "CRFEntityRecognizer":
        """Load what `to_disk` wrote. See `TrainablePipe.from_disk`.

        RAISES (OSError): A file is missing or cannot be read.
        RAISES (SavedStateError): As of `from_bytes`.
        """
        exclude, folder = tuple(exclude), Path(path)
        parts = parts_from_disk(folder, exclude)
        with explained(show_path(folder)):
            if "vocab" not in exclude:
                self.vocab.from_disk(folder / "vocab", exclude=exclude)
            self._take(parts)
        return self

    def _take(self, parts: SavedParts) -> None:
        """Take over the parts of a saved pipe, where they are not excluded."""
        if parts.model is not None:
            self.model.from_dict(unpack_model(parts.model, self.model.ops))
        if parts.cfg is not None:
            n_tags = BioTags(len(parts.cfg["labels"])).size
            built_for = self.model.get_ref("output_layer").maybe_get_dim("nO")
            if parts.model is not None and built_for not in (None, n_tags):
                raise SavedStateError(
                    f"cfg has {len(parts.cfg['labels'])} labels, which make {n_tags} tags, but the model was "
                    f"saved for {built_for}: they are of two pipes; {AGAIN}"
                )
            self.cfg.update(parts.cfg)
        if parts.gazetteer is not None:
            self.gazetteer.from_bytes(parts.gazetteer)
        self._teacher = None
