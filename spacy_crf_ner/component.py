"""The factory `crf_ner`: named-entity recognition by a constrained linear-chain CRF."""

from itertools import chain, islice, repeat
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Set, Tuple

import numpy
from numpy.typing import NDArray
from spacy.attrs import ENT_IOB, ENT_TYPE, IS_SPACE, SENT_START
from spacy.errors import Errors
from spacy.language import Language
from spacy.pipeline import TrainablePipe
from spacy.scorer import get_ner_prf
from spacy.tokens import Doc, Span
from spacy.training import Example, validate_examples, validate_get_examples
from spacy.util import check_lexeme_norms
from spacy.vocab import Vocab
from thinc.api import Config, Model, Optimizer

from spacy_crf_ner import labels as bio
from spacy_crf_ner.model.potentials import Lattice, Potentials, best_tags, negative_log_likelihood

DEFAULT_CONFIG = """
[model]
@architectures = "spacy-crf-ner.CRFTagger.v1"
lstm_width = 256
lstm_depth = 1
attention_heads = 4
attention_window = 128

[model.tok2vec]
@architectures = "spacy.HashEmbedCNN.v2"
pretrained_vectors = null
width = 96
depth = 4
embed_size = 2000
window_size = 1
maxout_pieces = 3
subword_features = true
"""

_SET = (1, 3)  # the values of token.ent_iob, I and B, that an earlier component left


@Language.factory(
    "crf_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        "model": Config().from_str(DEFAULT_CONFIG)["model"],
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_crf_ner(
    nlp: Language, name: str, model: Model[List[Doc], Potentials], scorer: Optional[Callable]
) -> "CRFEntityRecognizer":
    """Construct a CRFEntityRecognizer.

    model (Model[List[Doc], Potentials]): The model, `spacy-crf-ner.CRFTagger.v1` or one of its kind: docs to
        CRF potentials, with the ref "output_layer", whose dim nO is the number of BIO tags, and the attr
        "resize_output".
    scorer (Optional[Callable]): The scoring method; `spacy.ner_scorer.v1` by default.
    """
    return CRFEntityRecognizer(nlp.vocab, model, name, scorer=scorer)


class CRFEntityRecognizer(TrainablePipe):
    """Marks entities with the best legal tag sequence of a linear-chain CRF.

    `labels` are entity types; the model's tags are `labels.bio_tags` of them. Whitespace tokens are no part of
    the sequence: an entity may run over them, but neither begins nor ends there.
    """

    def __init__(
        self,
        vocab: Vocab,
        model: Model[List[Doc], Potentials],
        name: str = "crf_ner",
        *,
        scorer: Optional[Callable] = get_ner_prf,
    ) -> None:
        """Initialize the recognizer.

        vocab (Vocab): The shared vocabulary.
        model (Model[List[Doc], Potentials]): The model that yields the CRF's potentials.
        name (str): The component instance's name, under which its loss is reported.
        scorer (Optional[Callable]): The scoring method.
        """
        self.vocab = vocab
        self.model = model
        self.name = name
        self.scorer = scorer
        # "untrained": labels added after training, of which no update has shown an entity: they are not predicted.
        self.cfg: Dict[str, Any] = {"labels": [], "untrained": []}
        self._shown: Set[str] = set()  # labels of the entities that the updates since the last step have shown

    @property
    def labels(self) -> Tuple[str, ...]:
        """The entity types, in the order of the model's tags."""
        return tuple(self.cfg["labels"])

    @property
    def label_data(self) -> Tuple[str, ...]:
        """The labels as `initialize` takes them; what `spacy init labels` writes."""
        return self.labels

    def add_label(self, label: str) -> int:
        """Add an entity type. A model that is built grows by its two tags.

        That alone changes no prediction. The new type is predicted once an update has shown an entity of it.

        label (str): The entity type.
        RETURNS (int): 0 if the label is there already, otherwise 1.
        RAISES (ValueError): The label is not a string, or empty.
        """
        if not isinstance(label, str):
            raise ValueError(Errors.E187)
        if not label:
            raise ValueError("an entity type must not be empty: spaCy takes the empty type for 'no entity'")
        if label in self.labels:
            return 0
        self.cfg["labels"].append(label)
        self.vocab.strings.add(label)
        if self.model.get_ref("output_layer").has_dim("nO"):
            self.cfg["untrained"].append(label)
            self.set_output(bio.n_tags(len(self.labels)))
        return 1

    def initialize(
        self,
        get_examples: Callable[[], Iterable[Example]],
        *,
        nlp: Optional[Language] = None,
        labels: Optional[Sequence[str]] = None,
    ) -> None:
        """Set the labels, sorted, and build the model for them.

        get_examples (Callable[[], Iterable[Example]]): Returns a representative sample of gold examples.
        nlp (Optional[Language]): The pipeline.
        labels (Optional[Sequence[str]]): The entity types, as `spacy init labels` writes them; without them,
            they are read off the examples. Labels added before stay in either case.
        RAISES (ValueError): There is no label or no example, or a label is no entity type.
        """
        validate_get_examples(get_examples, "CRFEntityRecognizer.initialize")
        check_lexeme_norms(self.vocab, "crf_ner")
        if labels is None:
            labels = [ent.label_ for example in get_examples() for ent in example.reference.ents]
        elif isinstance(labels, (str, dict)):
            raise ValueError(f"labels must be a list of entity types, not {labels!r}")
        found = {*self.labels, *labels}
        if not all(isinstance(label, str) and label for label in found):
            raise ValueError(f"labels must be non-empty strings, not {sorted(map(repr, found))}")
        self.cfg["labels"] = sorted(found)
        self.cfg["untrained"] = []
        for label in self.labels:
            self.vocab.strings.add(label)
        self._require_labels()
        sample = [example.predicted for example in islice(get_examples(), 10)]
        if not sample:
            raise ValueError(Errors.E923.format(name=self.name))
        # The model may have been built for fewer labels before.
        self.set_output(bio.n_tags(len(self.labels)))
        self.model.initialize(X=sample)

    def predict(self, docs: Iterable[Doc]) -> Potentials:
        """Compute the CRF's potentials of a batch of docs, without modifying them.

        docs (Iterable[Doc]): The docs.
        RETURNS (Potentials): One emission array a doc; `set_annotations` decodes them.
        """
        docs = list(docs)
        if not any(len(doc) for doc in docs):
            return Potentials.empty(self.model.ops, len(docs), bio.n_tags(len(self.labels)))
        self._require_labels()
        return self.model.predict(docs)

    def set_annotations(self, docs: Iterable[Doc], potentials: Potentials) -> None:
        """Decode the potentials and write `doc.ents`.

        Entities that are set already and tokens that are blocked stay, and the best sequence is sought around
        them. No entity runs over the start of a sentence, where sentences are known.

        docs (Iterable[Doc]): The docs.
        potentials (Potentials): What `predict` returned for them.
        """
        docs = list(docs)
        lattices = [self._decoding_lattice(doc) for doc in docs]
        tag_names = bio.bio_tags(self.labels)
        for doc, lattice, tag_ids in zip(docs, lattices, best_tags(self.model.ops, potentials, lattices)):
            words = numpy.flatnonzero(lattice.any(axis=1))
            spans = bio.tags_to_spans([tag_names[i] for i in tag_ids[words]])
            ent_iob = doc.to_array(ENT_IOB)
            ents = list(doc.ents)
            for first, last, label in spans:
                start, end = int(words[first]), int(words[last - 1]) + 1
                if not numpy.isin(ent_iob[start:end], _SET).any():
                    ents.append(Span(doc, start, end, label=label))
            blocked = [doc[i : i + 1] for i in _blocked(doc)]
            doc.set_ents(ents, blocked=blocked, default="outside")

    def get_loss(self, examples: Iterable[Example], potentials: Potentials) -> Tuple[float, Potentials]:
        """The negative log-likelihood of the gold annotation a token, and its gradient.

        Tokens whose annotation is missing or does not align are marginalised over: they may have any tag.

        examples (Iterable[Example]): The batch.
        potentials (Potentials): What the model returned for the predicted docs.
        RETURNS (Tuple[float, Potentials]): The loss in nats a token of the batch, and its derivative by each
            potential.
        RAISES (ValueError): A gold label is not among the labels, or the loss is not a number.
        """
        examples = list(examples)
        validate_examples(examples, "CRFEntityRecognizer.get_loss")
        lattices = [self._gold_lattice(example) for example in examples]
        loss, gradient = negative_log_likelihood(self.model.ops, potentials, lattices)
        if not numpy.isfinite(loss):
            raise ValueError(
                f"the loss of component '{self.name}' is {loss}: the model's scores are no longer finite. "
                "Lower the learning rate, clip gradients (the optimizer's grad_clip) or switch mixed precision off"
            )
        scale = 1.0 / max(sum(len(lattice) for lattice in lattices), 1)
        for emission in gradient.emissions:
            emission *= scale
        for array in (gradient.start, gradient.transitions, gradient.end):
            array *= scale
        return loss * scale, gradient

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
        """
        examples = list(examples)
        if self.cfg["untrained"]:
            self._shown.update(ent.label_ for example in examples for ent in example.reference.ents)
        return super().update(examples, drop=drop, sgd=sgd, losses=losses)

    def finish_update(self, sgd: Optimizer) -> None:
        """Step the parameters. A label that was added to the trained pipe, and of which the updates since the
        last step have shown an entity, is predicted from now on.

        sgd (Optimizer): The optimizer.
        """
        super().finish_update(sgd)
        self.cfg["untrained"] = [label for label in self.cfg["untrained"] if label not in self._shown]
        self._shown.clear()

    def _gold_lattice(self, example: Example) -> Lattice:
        """What the gold annotation lets each token of the predicted doc be."""
        words = _words(example.predicted)
        aligned = example.get_aligned_ner()
        lattice = numpy.zeros((len(words), bio.n_tags(len(self.labels))), dtype=bool)
        # Whitespace goes first: what began on it begins on the next word.
        lattice[words] = bio.tag_lattice([aligned[i] for i in numpy.flatnonzero(words)], self.labels)
        return lattice

    def _decoding_lattice(self, doc: Doc) -> Lattice:
        """What each token may be, given what is set on the doc already."""
        words = _words(doc)
        allowed = numpy.ones(bio.n_tags(len(self.labels)), dtype=bool)
        for label in self.cfg["untrained"]:
            begin = 2 * self.labels.index(label) + 1
            allowed[begin : begin + 2] = False
        lattice = numpy.where(words[:, None], allowed, False)
        index = {tag: i for i, tag in enumerate(bio.bio_tags(self.labels))}
        for ent in doc.ents:
            inside = ent.start + numpy.flatnonzero(words[ent.start : ent.end])
            lattice[inside] = False
            for position, prefix in zip(inside, chain("B", repeat("I"))):
                # An entity type that the model does not know looks like O to its neighbours.
                lattice[position, index.get(f"{prefix}-{ent.label_}", 0)] = True
        for i in _blocked(doc):
            lattice[i, 1:] = False
        # Where no entity may run on from the word before: at what is set, after it, and at a sentence's start.
        ent_iob, sent_start = doc.to_array([ENT_IOB, SENT_START]).T
        is_set = numpy.isin(ent_iob, _SET)
        fresh = ~is_set & ((sent_start == 1) | numpy.roll(is_set, 1))
        for i in numpy.flatnonzero(fresh).tolist():
            following = i + int(words[i:].argmax())  # whitespace passes the bar on to the next word
            if not is_set[following]:
                lattice[following, 2::2] = False
        return lattice


def _words(doc: Doc) -> NDArray[numpy.bool_]:
    """Which tokens are part of the CRF's sequence: all but whitespace. *Shape:* (n_tokens,)."""
    return doc.to_array(IS_SPACE) == 0


def _blocked(doc: Doc) -> List[int]:
    """The tokens that no entity may have: B without a type."""
    ent_iob, ent_type = doc.to_array([ENT_IOB, ENT_TYPE]).T
    return numpy.flatnonzero((ent_iob == _SET[1]) & (ent_type == 0)).tolist()
