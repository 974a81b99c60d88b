"""Word-pieces that keep to the tokens, of a byte-level tokenizer and of a SentencePiece one that are made here."""

import pickle
from pathlib import Path
from typing import Any, List, Optional

import numpy
import pytest
import spacy
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.tokens import Doc
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import AutoTokenizer, PreTrainedTokenizerFast, XLMRobertaConfig, XLMRobertaModel

from spacy_crf_ner.encoder.piece_tokenizer import PieceTokenizer
from spacy_crf_ner.encoder.serialization import EncoderState
from spacy_crf_ner.encoder.token_pieces import TokenPieces, runs_over_words
from spacy_crf_ner.encoder.wordpieces import DocPieces, choose_windowing, split
from tests.encoder.util import by, encoder_pipeline, save_encoder, shim_of
from tests.util import TEXTS, get_pipe, n_drawn

ZH, EN = spacy.blank("zh"), spacy.blank("en")


def sentencepiece() -> PreTrainedTokenizerFast:
    """A Unigram tokenizer as XLM-R's: it has pieces of several characters, and marks what follows a space."""
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    characters = sorted({character for text, _ in TEXTS for character in text} - {"读"})
    words = ["北京", "在北京", "北京大学", "小明", "▁王", "▁小明", "▁大学"]
    scores = {
        **dict.fromkeys(special, 0.0),
        "▁": -3.0,
        **dict.fromkeys(characters, -9.0),
        **dict.fromkeys(words, -8.0),
    }
    made = Tokenizer(models.Unigram(list(scores.items()), unk_id=3))
    made.normalizer = normalizers.NFKC()
    made.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()])
    made.decoder = decoders.Metaspace()
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=made, bos_token="<s>", eos_token="</s>", pad_token="<pad>", unk_token="<unk>"
    )


@pytest.fixture(scope="module")
def unigram() -> Any:
    return sentencepiece()


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("roberta")
    save_encoder(folder, "roberta")
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("bert")
    save_encoder(folder, "bert")
    return AutoTokenizer.from_pretrained(folder)


def owners(pieces: DocPieces) -> List[List[int]]:
    """For each piece, the tokens that share characters with it."""
    found: List[List[int]] = [[] for _ in pieces.ids]
    places = iter(pieces.align.dataXd.tolist())
    for token, n in enumerate(pieces.align.lengths.tolist()):
        for _ in range(n):
            found[next(places)].append(token)
    return found


def pieces_of(tokenizer: Any, doc: Doc, cut: Optional[TokenPieces], window: int = 400) -> DocPieces:
    _, (pieces,) = split(by(tokenizer), [doc], choose_windowing(by(tokenizer), None, window, None), cut)
    assert pieces is not None
    return pieces


TEXT = st.lists(
    st.sampled_from(
        [*"王小明北京大学，。去了", "北京大学", "１９", "hello", " ", "\n", "😀", "é", "\u200b", "𠮷"]
    ),
    min_size=1,
    max_size=30,
).map("".join)


@given(text=TEXT)
@settings(deadline=None, max_examples=n_drawn(100))
def test_no_piece_runs_over_two_tokens_and_no_token_is_lost(
    unigram: Any, byte_level: Any, bert: Any, text: str
) -> None:
    doc = ZH(text)
    for tokenizer in (unigram, byte_level, bert):
        own, cut = pieces_of(tokenizer, doc, None), pieces_of(tokenizer, doc, TokenPieces(by(tokenizer)))
        assert all(len(tokens) <= 1 for tokens in owners(cut))
        for token, before, after in zip(doc, own.align.lengths, cut.align.lengths):
            # What nothing can be seen of, such as U+200B, has no piece for itself.
            alone = tokenizer(token.text, add_special_tokens=False)["input_ids"]
            assert bool(after) == bool(before) or (not after and not alone)
        assert cut.ids == tokenizer.convert_tokens_to_ids(cut.strings)
        if all(len(tokens) <= 1 for tokens in owners(own)):
            assert (cut.strings, cut.ids) == (own.strings, own.ids)


@pytest.mark.parametrize("text", ["王小明在北京大学读书。", "在北京 大学", "😀北京𠮷大学"])
def test_the_tokenizers_do_run_over_tokens_without_it(unigram: Any, byte_level: Any, text: str) -> None:
    """What the law above forbids happens: it says something."""
    doc = ZH(text)
    assert any(len(tokens) > 1 for tokens in owners(pieces_of(unigram, doc, None)))
    assert any(len(tokens) > 1 for tokens in owners(pieces_of(byte_level, doc, None)))


def test_a_part_is_what_the_vocabulary_has_for_it(unigram: Any) -> None:
    strings = pieces_of(unigram, ZH("王小明在北京大学读书。"), TokenPieces(by(unigram))).strings
    assert strings == ["<s>", "▁王", *"小明在北京大学", "读", *"书。", "</s>"]
    assert pieces_of(unigram, ZH("小明"), TokenPieces(by(unigram))).strings == ["<s>", "▁", "小", "明", "</s>"]


def test_names_of_special_tokens_may_be_text(bert: Any) -> None:
    """After pickling as well; of the whole text and of its parts."""
    doc = Doc(ZH.vocab, ["小", "明[SEP]", "北京"], spaces=[False] * 3)
    tokenizer = PieceTokenizer(bert.backend_tokenizer, takes_types=False, splits_special=True)
    windowing = choose_windowing(tokenizer, None, 100, None)
    for made in (tokenizer, pickle.loads(pickle.dumps(tokenizer))):
        for cut in (None, TokenPieces(made), pickle.loads(pickle.dumps(TokenPieces(made)))):
            _, (pieces,) = split(made, [doc], windowing, cut)
            assert pieces is not None and pieces.strings.count("[SEP]") == 1
    bert.backend_tokenizer.encode_special_tokens = False


def test_tokenizers_are_told_apart(unigram: Any, byte_level: Any, bert: Any) -> None:
    assert (runs_over_words(by(unigram)), runs_over_words(by(byte_level)), runs_over_words(by(bert))) == (
        True,
        True,
        False,
    )


@given(st.integers(1, 60), st.sampled_from([8, 11, 20]))
@settings(deadline=None, max_examples=n_drawn(40))
def test_windows_of_cut_pieces_hold_all_of_them(unigram: Any, n: int, window: int) -> None:
    doc = ZH(("王小明在北京大学读书，" * 6)[:n])
    cut = TokenPieces(by(unigram))
    batch, (pieces,) = split(by(unigram), [doc], choose_windowing(by(unigram), None, window, None), cut)
    whole = pieces_of(unigram, doc, cut)
    assert pieces is not None
    assert (pieces.strings, pieces.ids) == (whole.strings, whole.ids)
    assert pieces.align.dataXd.tolist() == whole.align.dataXd.tolist()
    assert max(map(len, batch.input_ids)) <= window
    assert all(ids[0] == 0 and ids[-1] == 2 for ids in batch.input_ids)
    flat = numpy.concatenate(batch.input_ids)
    assert flat[batch.overlaps.rows].tolist() == whole.ids


@pytest.fixture(scope="module")
def xlm_r(tmp_path_factory: pytest.TempPathFactory, unigram: Any) -> Path:
    """A tiny XLM-R with such a tokenizer."""
    folder = tmp_path_factory.mktemp("xlm-r")
    torch.manual_seed(0)
    config = XLMRobertaConfig(
        vocab_size=len(unigram),
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=24,
        max_position_embeddings=130,
        type_vocab_size=1,
    )
    XLMRobertaModel(config).save_pretrained(folder)
    unigram.save_pretrained(folder)
    return folder


def pieces_in(nlp: Any, text: str) -> List[str]:
    return nlp(text)._.trf_data.wordpieces.strings[0]


def test_a_pipeline_cuts_pieces_by_itself_only_where_no_spaces_are_written(xlm_r: Path) -> None:
    text = "王小明在北京大学读书。"
    cut, whole = (encoder_pipeline(xlm_r, split_tokens=wanted) for wanted in (True, False))
    assert len(pieces_in(cut, text)) > len(pieces_in(whole, text))
    nlp = encoder_pipeline(xlm_r)
    assert pieces_in(nlp, text) == pieces_in(cut, text)
    shim = shim_of(nlp)
    assert shim.token_pieces_for([EN("hello")]) is None
    assert shim.token_pieces_for([ZH("京")]) is not None


def test_what_a_pipeline_does_it_does_when_it_is_loaded(xlm_r: Path, tmp_path: Path) -> None:
    text = "王小明在北京大学读书。"
    nlp = encoder_pipeline(xlm_r)
    nlp.to_disk(tmp_path / "model")
    loaded = spacy.load(tmp_path / "model")
    assert pieces_in(loaded, text) == pieces_in(nlp, text)
    assert [ent.text for ent in loaded(text).ents] == [ent.text for ent in nlp(text).ents]


def test_a_pipeline_of_an_older_version_goes_on_as_it_was(xlm_r: Path) -> None:
    text = "王小明在北京大学读书。"
    whole = encoder_pipeline(xlm_r, split_tokens=False)
    state = EncoderState.from_bytes(shim_of(whole).to_bytes())
    assert state is not None and state.may_split_tokens
    old = EncoderState(**{**vars(state), "may_split_tokens": False})
    nlp = encoder_pipeline(xlm_r)
    shim_of(nlp).from_bytes(old.to_bytes())
    assert pieces_in(nlp, text) == pieces_in(whole, text)
    # It stays so when it is saved again.
    again = EncoderState.from_bytes(shim_of(nlp).to_bytes())
    assert again is not None and not again.may_split_tokens


def test_copies_cut_alike(xlm_r: Path) -> None:
    nlp = encoder_pipeline(xlm_r)
    text = "王小明在北京大学读书。"
    model = get_pipe(nlp, "transformer").model
    copied = model.copy()
    assert copied.shim.token_pieces_for([ZH(text)]) is not None
