"""Encoders that were really pretrained, which `python scripts/fetch_encoders.py` puts into assets/encoders."""

import json
import shutil
import unicodedata
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy
import pytest
import safetensors.torch
import spacy
import torch
from spacy.language import Language
from spacy.tokens import Doc
from spacy.util import minibatch
from transformers import AutoModel, AutoTokenizer, XLMRobertaConfig, XLMRobertaModel

from spacy_crf_ner.corpus.vocabulary import EncoderVocabulary
from spacy_crf_ner.encoder.freezing import layers_of
from spacy_crf_ner.encoder.merging import merge_lora
from spacy_crf_ner.encoder.token_pieces import TokenPieces
from spacy_crf_ner.encoder.wordpieces import choose_windowing, split
from spacy_crf_ner.formats.doc_builder import DocMaker
from spacy_crf_ner.formats.reading import read
from tests.encoder.test_token_pieces import owners
from tests.encoder.util import by, encoder_pipeline, in_new_process, outputs, shim_of, train, weights
from tests.util import TEXTS

READ = [text for text, _ in TEXTS]
CORPORA: Dict[str, Tuple[str, str, List[str]]] = {
    "msra": ("m3e-small", "zh", ["dev.bio", "test.bio"]),
    "cluener": ("m3e-small", "zh", ["dev.json"]),
    "weibo": ("m3e-small", "zh", ["weiboNER_2nd_conll.train", "weiboNER_2nd_conll.dev"]),
    "wnut17": ("all-MiniLM-L6-v2", "en", ["wnut17train.conll", "emerging.dev.conll"]),
}

UNSEEN = {"Zs", "Cc", "Cf", "Mn", "Co"}
"""The Unicode categories of characters that nothing can be seen of."""


@pytest.fixture(scope="module")
def m3e(encoders_dir: Path) -> Path:
    return encoders_dir / "m3e-small"


@pytest.fixture(scope="module")
def minilm(encoders_dir: Path) -> Path:
    return encoders_dir / "all-MiniLM-L6-v2"


def docs_of(data: Path, corpus: str) -> Iterator[Doc]:
    _, lang, files = CORPORA[corpus]
    settings = {"repair": True} if corpus == "weibo" else {}
    for file in files:
        yield from read([data / corpus / file], DocMaker(lambda: spacy.blank(lang)), settings=settings)


@pytest.mark.parametrize("corpus", CORPORA)
def test_each_character_has_its_piece_or_is_counted_as_unknown(
    corpus: str, encoders_dir: Path, data_dir: Path
) -> None:
    encoder, _, _ = CORPORA[corpus]
    tokenizer = AutoTokenizer.from_pretrained(encoders_dir / encoder)
    windowing = choose_windowing(by(tokenizer), 512, None, None)
    seen: Counter[str] = Counter()
    for batch in minibatch(docs_of(data_dir, corpus), 500):
        for doc in batch:
            seen.update(doc.text)
        for doc, pieces in zip(batch, split(by(tokenizer), batch, windowing)[1]):
            assert pieces is not None
            for token, n_pieces in zip(doc, pieces.align.lengths.tolist()):
                # Without a piece is only what nothing can be seen of, and what was lost in an encoding.
                text = token.text.replace("\ufffd", "")
                assert n_pieces or {unicodedata.category(character) for character in text} <= UNSEEN
    characters = sorted(seen)
    counted = EncoderVocabulary(str(encoders_dir / encoder)).unknown(characters)
    for character in characters:
        unknown = tokenizer.unk_token in tokenizer(character).tokens()
        assert unknown == (character in counted), character
    # Emoji, and the full-width digits and letters of MSRA.
    assert sum(seen[character] for character in counted) < 0.04 * seen.total()


@pytest.mark.parametrize(
    "name, text", [("m3e-small", READ[0]), ("all-MiniLM-L6-v2", "Ann Lee left New York today.")]
)
def test_an_encoder_computes_what_transformers_computes_beside_files_of_sentence_embedding(
    name: str, text: str, encoders_dir: Path
) -> None:
    """`modules.json`, `1_Pooling` and the rest say how sentences are embedded, and nothing to this pipe."""
    folder = encoders_dir / name
    nlp = spacy.blank("zh" if name == "m3e-small" else "en")
    nlp.add_pipe(
        "transformer", config={"model": {"@architectures": "spacy-crf-ner.Transformer.v1", "name": str(folder)}}
    )
    nlp.initialize()
    found = nlp(text)._.trf_data.model_output.last_hidden_state[0]
    inputs = AutoTokenizer.from_pretrained(folder)(text, return_tensors="pt")
    with torch.no_grad():
        expected = AutoModel.from_pretrained(folder).eval()(**inputs).last_hidden_state[0].numpy()
    numpy.testing.assert_allclose(found, expected, atol=1e-4)
    if name == "all-MiniLM-L6-v2":
        assert {"1_Pooling", "modules.json"} <= {path.name for path in folder.iterdir()}


def test_a_text_longer_than_the_encoder_takes_is_read_to_its_end(m3e: Path) -> None:
    nlp = encoder_pipeline(m3e)
    doc = nlp("".join(READ) * 20)
    output = doc._.trf_data.model_output.last_hidden_state[0]
    assert len(doc) > 800 and len(output) == len(doc) + 2
    assert numpy.isfinite(output).all() and (output.std(axis=1) > 0.1).all()


LORA: Dict[str, Any] = {"@misc": "spacy-crf-ner.LoRA.v1", "rank": 8}


def vectors(nlp: Language) -> Any:
    return numpy.concatenate([nlp(text)._.trf_data.model_output.last_hidden_state[0] for text in READ])


def test_adapters_learn_are_saved_alone_and_are_merged(m3e: Path, tmp_path: Path) -> None:
    plain, nlp = encoder_pipeline(m3e), encoder_pipeline(m3e, lora=LORA, save_mode="adapter")
    numpy.testing.assert_allclose(vectors(nlp), vectors(plain), atol=1e-5)
    train(nlp, 3, rate=0.01)
    learnt = vectors(nlp)
    assert numpy.abs(learnt - vectors(plain)).max() > 0.01
    nlp.to_disk(tmp_path / "adapter")
    # The adapter, without the encoder's 96 MB.
    assert (tmp_path / "adapter" / "transformer" / "model").stat().st_size < 2**20
    for ours, theirs in zip(outputs(nlp, READ), in_new_process(tmp_path / "adapter")):
        assert (ours == theirs).all()
    assert merge_lora(nlp) == ["transformer"]
    numpy.testing.assert_allclose(vectors(nlp), learnt, atol=1e-4)


@pytest.mark.parametrize("freeze, n_frozen", [(2, 2), ("all", 4)])
def test_what_is_frozen_stays_as_it_was_pretrained(m3e: Path, freeze: Any, n_frozen: int) -> None:
    nlp = encoder_pipeline(m3e, freeze=freeze)
    before = weights(shim_of(nlp).transformer)
    train(nlp, 1)
    after = weights(shim_of(nlp).transformer)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    layers = {int(name.split(".")[2]) for name in changed}
    assert layers == set(range(n_frozen, len(layers_of(shim_of(nlp).transformer))))


def test_a_weight_that_is_missing_is_refused(minilm: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(minilm, tmp_path / "damaged")
    state = safetensors.torch.load_file(folder / "model.safetensors")
    gone = next(name for name in state if name.endswith("layer.3.attention.self.query.weight"))
    kept = {name: tensor for name, tensor in state.items() if name != gone}
    safetensors.torch.save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=r"lacks encoder\.layer\.3\.attention\.self\.query\.weight"):
        encoder_pipeline(folder)


SPECIAL = {"bos": "s", "eos": "/s", "cls": "s", "sep": "/s", "unk": "unk", "pad": "pad"}


@pytest.fixture(scope="module")
def xlm_r(encoders_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The real tokenizer of XLM-R over a tiny encoder."""
    folder = tmp_path_factory.mktemp("xlm-r")
    shutil.copy(encoders_dir / "multilingual-e5-small-tokenizer" / "tokenizer.json", folder)
    settings = {
        "tokenizer_class": "XLMRobertaTokenizerFast",
        "model_max_length": 512,
        **{f"{name}_token": f"<{piece}>" for name, piece in SPECIAL.items()},
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf8")
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=250037,
        hidden_size=8,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=8,
        max_position_embeddings=514,
        type_vocab_size=1,
        pad_token_id=1,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    return folder


def n_cut(docs: List[Doc], tokenizer: Any, cut: Any) -> int:
    """The entities that begin or end inside a word-piece."""
    n = 0
    for doc, pieces in zip(
        docs, split(by(tokenizer), docs, choose_windowing(by(tokenizer), 512, None, None), cut)[1]
    ):
        assert pieces is not None
        inside = {token for tokens in owners(pieces) for token in tokens[1:]}
        n += sum(ent.start in inside or ent.end in inside for ent in doc.ents)
    return n


def test_no_entity_of_msra_ends_inside_a_piece_of_xlm_r(xlm_r: Path, data_dir: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(xlm_r)
    read_docs = read([data_dir / "msra" / "dev.bio"], DocMaker(lambda: spacy.blank("zh")))
    docs = [doc for doc, _ in zip(read_docs, range(500))]
    n_entities = sum(len(doc.ents) for doc in docs)
    assert n_cut(docs, tokenizer, None) > 0.03 * n_entities
    assert n_cut(docs, tokenizer, TokenPieces(by(tokenizer))) == 0


def test_a_pipeline_over_xlm_r_keeps_to_the_tokens_and_is_saved(xlm_r: Path, tmp_path: Path) -> None:
    nlp = encoder_pipeline(xlm_r)
    doc = nlp("王小明在北京大学读书。")
    assert doc._.trf_data.wordpieces.strings[0] == ["<s>", "▁王", *"小明在北京大学读书。", "</s>"]
    train(nlp, 2)
    nlp.to_disk(tmp_path / "model")
    for ours, theirs in zip(outputs(nlp, READ), in_new_process(tmp_path / "model")):
        assert (ours == theirs).all()
