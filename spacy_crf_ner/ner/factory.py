"""The factory `crf_ner`: `nlp.add_pipe("crf_ner")`."""

from typing import Callable, List, Optional

from spacy.language import Language
from spacy.tokens import Doc
from thinc.api import Config, Model

from spacy_crf_ner.ner.component import CRFEntityRecognizer
from spacy_crf_ner.tagger.potentials import Potentials

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


@Language.factory(
    "crf_ner",
    assigns=["doc.ents", "token.ent_iob", "token.ent_type"],
    default_config={
        "model": Config().from_str(DEFAULT_CONFIG)["model"],
        "save_scores": False,
        "min_score": 0.0,
        "phrase_matcher_attr": "ORTH",
        "scorer": {"@scorers": "spacy.ner_scorer.v1"},
    },
    default_score_weights={"ents_f": 1.0, "ents_p": 0.0, "ents_r": 0.0, "ents_per_type": None},
)
def make_crf_ner(
    nlp: Language,
    name: str,
    model: Model[List[Doc], Potentials],
    save_scores: bool,
    min_score: float,
    phrase_matcher_attr: str,
    scorer: Optional[Callable],
) -> CRFEntityRecognizer:
    """Construct a CRFEntityRecognizer.

    model (Model[List[Doc], Potentials]): The model, `spacy-crf-ner.CRFTagger.v1` or one of its kind: docs to
        CRF potentials, with the ref "output_layer", whose dim nO is the number of BIO tags, and the attr
        "resize_output".
    save_scores (bool): Whether `doc.spans[name]` shall carry the found entities, and the probability of each in
        its attrs["scores"].
    min_score (float): Entities of a lower probability are left out.
    phrase_matcher_attr (str): The token attribute by which the gazetteer compares phrases.
    scorer (Optional[Callable]): The scoring method; `spacy.ner_scorer.v1` by default.
    """
    return CRFEntityRecognizer(
        nlp.vocab,
        model,
        name,
        save_scores=save_scores,
        min_score=min_score,
        phrase_matcher_attr=phrase_matcher_attr,
        scorer=scorer,
    )
