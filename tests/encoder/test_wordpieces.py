from typing import Any, Iterator, List, Optional, Tuple

import numpy
import pytest
import spacy
from hypothesis import given, settings
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc
from spacy_transformers.align import get_alignment_via_offset_mapping
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import AutoTokenizer, BertTokenizerFast, PreTrainedTokenizerFast

from spacy_crf_ner.encoder.piece_tokenizer import PieceTokenizer
from spacy_crf_ner.encoder.wordpieces import DEFAULT_WINDOW, DocPieces, Windowing, align, choose_windowing, split
from tests.encoder.util import by, save_encoder
from tests.util import n_drawn

ZWSP, BOM = "\u200b", "\ufeff"
VOCABULARY = [
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *"王小明在北京大学读书去了。，上海",
    *("hello", "world", "un", "##aff", "##able", "##s", "a", "##a", "1", "##9"),
]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> BertTokenizerFast:
    path = tmp_path_factory.mktemp("bert") / "vocab.txt"
    path.write_text("\n".join(VOCABULARY), encoding="utf8")
    return BertTokenizerFast(vocab_file=str(path))


@pytest.fixture(scope="module")
def byte_level(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("roberta")
    save_encoder(folder, "roberta")
    return AutoTokenizer.from_pretrained(folder)


ZH, EN = spacy.blank("zh"), spacy.blank("en")


def pieces_of(tokenizer: Any, doc: Doc, window: int = 510, stride: Optional[int] = None) -> DocPieces:
    windowing = choose_windowing(by(tokenizer), None, window, stride)
    _, (pieces,) = split(by(tokenizer), [doc], windowing)
    assert pieces is not None
    return pieces


def aligned(pieces: DocPieces) -> List[List[int]]:
    """For each token, the places of its word-pieces."""
    places = iter(pieces.align.dataXd.tolist())
    return [[next(places) for _ in range(n)] for n in pieces.align.lengths.tolist()]


def strings_by_token(tokenizer: Any, doc: Doc) -> List[List[str]]:
    pieces = pieces_of(tokenizer, doc)
    return [[pieces.strings[i] for i in row] for row in aligned(pieces)]


def whole(tokenizer: Any, doc: Doc) -> Tuple[List[str], List[int], List[List[int]]]:
    """The word-pieces of a text when the tokenizer need not cut it, and those that share a character with each
    token, by definition."""
    encoded = tokenizer(doc.text, return_offsets_mapping=True, verbose=False)
    offsets = encoded["offset_mapping"]
    align = [
        [i for i, (start, end) in enumerate(offsets) if max(start, token.idx) < min(end, token.idx + len(token))]
        for token in doc
    ]
    return encoded[0].tokens, encoded["input_ids"], align


def test_chinese_aligns_by_character(bert: Any) -> None:
    doc = ZH("王小明在北京。")
    pieces = pieces_of(bert, doc)
    assert pieces.strings == ["[CLS]", *"王小明在北京。", "[SEP]"]
    assert pieces.ids == bert.convert_tokens_to_ids(pieces.strings)
    assert aligned(pieces) == [[i + 1] for i in range(7)]


def test_english_words_have_several_pieces(bert: Any) -> None:
    assert strings_by_token(bert, EN("hello unaffable worlds")) == [
        ["hello"],
        ["un", "##aff", "##able"],
        ["world", "##s"],
    ]


def test_characters_of_a_latin_word_share_its_pieces(bert: Any) -> None:
    """`spacy.blank("zh")` makes a token of each character."""
    doc = ZH("王hello a明")
    assert [token.text for token in doc] == ["王", *"hello", "a", "明"]
    by_token = dict(zip([token.idx for token in doc], strings_by_token(bert, doc)))
    assert by_token[0] == ["王"]
    assert all(by_token[i] == ["hello"] for i in range(1, 6))
    assert by_token[7] == ["a"]
    assert by_token[8] == ["明"]


@pytest.mark.parametrize("emoji", ["😀", "𠮷", "👩‍🚀", "🇨🇳"])
def test_characters_beyond_the_basic_plane_shift_nothing(bert: Any, byte_level: Any, emoji: str) -> None:
    doc = ZH(f"王{emoji}北京")
    by_token = strings_by_token(bert, doc)
    assert by_token[0] == ["王"]
    assert by_token[-2:] == [["北"], ["京"]]
    pieces = pieces_of(byte_level, doc)
    assert aligned(pieces) == whole(byte_level, doc)[2]
    assert all(row for row in aligned(pieces))


def test_an_unknown_run_is_one_piece_of_all_its_characters(bert: Any) -> None:
    """Full-width digits and letters are not Chinese characters to BERT: a run of them is a word, and unknown."""
    doc = ZH("在１９９８ＡＢ上海")
    pieces = pieces_of(bert, doc)
    assert pieces.strings == ["[CLS]", "在", "[UNK]", "上", "海", "[SEP]"]
    assert aligned(pieces) == [[1], *([2] for _ in "１９９８ＡＢ"), [3], [4]]


def test_white_space_and_invisible_tokens_have_no_pieces(bert: Any) -> None:
    doc = Doc(ZH.vocab, words=["王", " ", "\n", ZWSP, BOM, "　", "明"], spaces=[False] * 7)
    assert strings_by_token(bert, doc) == [["王"], [], [], [], [], [], ["明"]]


def test_a_doc_of_white_space_has_the_special_tokens_alone(bert: Any) -> None:
    for text in (" ", " \n　\t", ZWSP, f"{BOM} {ZWSP}"):
        doc = ZH(text)
        assert len(doc)
        pieces = pieces_of(bert, doc)
        assert pieces.strings == ["[CLS]", "[SEP]"]
        assert pieces.align.lengths.tolist() == [0] * len(doc)


def test_docs_without_tokens_have_no_windows(bert: Any) -> None:
    windowing = choose_windowing(by(bert), None, 8, None)
    docs = [ZH(text) for text in ("", "王小", "", "明", "")]
    batch, pieces = split(by(bert), docs, windowing)
    assert [piece is None for piece in pieces] == [True, False, True, False, True]
    assert [len(ids) for ids in batch.input_ids] == [4, 3]
    batch, pieces = split(by(bert), [ZH(""), ZH("")], windowing)
    assert batch.input_ids == []
    assert pieces == [None, None]
    assert split(by(bert), [], windowing)[1] == []


@pytest.mark.parametrize("literal", ["[SEP]", "[PAD]", "[CLS]", "[MASK]", "[UNK]"])
def test_the_name_of_a_special_token_in_a_text_cuts_nothing_off(bert: Any, literal: str) -> None:
    doc = ZH(f"王小{literal}北京" * 4)
    for window in (6, 7, 64):
        pieces = pieces_of(bert, doc, window)
        strings, ids, align = whole(bert, doc)
        assert (pieces.strings, pieces.ids, aligned(pieces)) == (strings, ids, align)
        assert all(row for row in align)


TEXT = st.lists(
    st.sampled_from(
        [*"王小明北京，。", "hello", "unaffable", " ", "\n", "１９", "😀", ZWSP, BOM, "[SEP]", "é", "x"]
    ),
    max_size=40,
).map("".join)


def frames() -> Iterator[Tuple[int, int]]:
    for window in (4, 5, 6, 7, 9, 12, 30):
        inner = window - 2
        for stride in {(inner + 1) // 2, inner * 3 // 4, inner - 1, inner}:
            if (inner + 1) // 2 <= stride:
                yield window, stride


@given(TEXT, st.sampled_from(sorted(frames())), st.sampled_from(["zh", "en"]))
@settings(deadline=None, max_examples=n_drawn(200))
def test_windows_joined_are_the_text_in_one_piece(
    bert: Any, byte_level: Any, text: str, windowing: Tuple[int, int], lang: str
) -> None:
    doc = (ZH if lang == "zh" else EN)(text)
    for tokenizer in (bert, byte_level):
        window, stride = windowing
        if not len(doc):
            continue
        batch, (pieces,) = split(by(tokenizer), [doc], choose_windowing(by(tokenizer), None, window, stride))
        assert pieces is not None
        strings, ids, align = whole(tokenizer, doc)
        assert pieces.strings == strings
        assert pieces.ids == ids
        assert aligned(pieces) == align
        assert max(map(len, batch.input_ids)) <= window
        # What the encoder's rows become is as long as what they are aligned with.
        assert len(batch.overlaps.rows) == len(ids)


@given(st.data())
@settings(deadline=None, max_examples=n_drawn(200))
def test_alignment_is_that_of_spacy_transformers(data: st.DataObject) -> None:
    """Of any word-pieces: some without characters, over white space, or over one another."""
    words = data.draw(st.lists(st.sampled_from(["王", "hello", " ", "\n ", "😀"]), min_size=1, max_size=8))
    spaces = data.draw(st.lists(st.booleans(), min_size=len(words), max_size=len(words)))
    doc = Doc(ZH.vocab, words, spaces)
    place = st.integers(0, len(doc.text))
    pairs = data.draw(st.lists(st.tuples(place, place), max_size=12))
    offsets = [(min(pair), max(pair)) for pair in pairs]
    found = align(doc, offsets)
    rows: Any = numpy.array(offsets, dtype="int64").reshape(1, -1, 2)
    expected = get_alignment_via_offset_mapping([doc[:]], rows)
    assert found.dataXd.tolist() == expected.dataXd.tolist()
    assert found.lengths.tolist() == expected.lengths.tolist()
    assert (found.dataXd.dtype, found.lengths.dtype) == (expected.dataXd.dtype, expected.lengths.dtype)


def test_what_a_saved_tokenizer_truncates_and_pads_is_not(bert: Any) -> None:
    """Such as those of sentence-embedding models."""
    saved = Tokenizer.from_str(bert.backend_tokenizer.to_str())
    saved.enable_truncation(4)
    saved.enable_padding(length=40)
    doc = ZH("王小明在北京大学")
    windowing = choose_windowing(by(bert), None, None, None)
    _, (expected,) = split(by(bert), [doc], windowing)
    tokenizer = PieceTokenizer(saved, takes_types=True)
    assert (tokenizer.before, tokenizer.after) == (by(bert).before, by(bert).after)
    _, (found,) = split(tokenizer, [doc], windowing)
    assert found is not None and expected is not None and found.strings == expected.strings


def test_types_are_those_of_the_tokenizer(bert: Any) -> None:
    """XLNet's special tokens are of types of their own."""
    saved = Tokenizer.from_str(bert.backend_tokenizer.to_str())
    saved.post_processor = processors.TemplateProcessing(
        single="[CLS]:2 $A:1 [SEP]:3", pair=None, special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    doc = ZH("王小明在北京大学")
    batch, _ = split(PieceTokenizer(saved, takes_types=True), [doc], Windowing(6, 4, 1, 1))
    assert batch.token_type_ids is not None
    assert [ids.tolist() for ids in batch.token_type_ids] == [[2, 1, 1, 1, 1, 3]] * 2
    assert split(PieceTokenizer(saved, takes_types=False), [doc], Windowing(6, 4, 1, 1))[0].token_type_ids is None


@pytest.mark.parametrize("window, stride", sorted(frames()))
def test_no_token_is_lost_at_any_length(bert: Any, window: int, stride: int) -> None:
    """Around each multiple of window and stride there is a length; here are all of them."""
    windowing = choose_windowing(by(bert), None, window, stride)
    docs = [ZH(("王小明在北京大学" * 10)[:n]) for n in range(1, 3 * window + 3)]
    batch, pieces = split(by(bert), docs, windowing)
    places = iter(batch.overlaps.rows.tolist())
    rows = [ids for window_ids in batch.input_ids for ids in window_ids.tolist()]
    for doc, piece in zip(docs, pieces):
        assert piece is not None
        assert aligned(piece) == [[i + 1] for i in range(len(doc))]
        # The rows that the encoder computes are those of these word-pieces.
        assert [rows[next(places)] for _ in piece.ids] == piece.ids
    assert next(places, None) is None
    later = [rows[i] for i in batch.overlaps.later.tolist()]
    assert later == [rows[i] for i in batch.overlaps.rows[batch.overlaps.shared].tolist()]


@pytest.mark.parametrize("window, stride", [(6, 2), (6, 4), (8, 4), (20, 13)])
def test_a_word_longer_than_a_window_keeps_all_its_pieces(byte_level: Any, window: int, stride: int) -> None:
    doc = EN("x " + "qzj" * 40 + " y")
    pieces = pieces_of(byte_level, doc, window, stride)
    rows = aligned(pieces)
    assert [len(row) > 0 for row in rows] == [True, True, True]
    assert len(rows[1]) > 2 * window
    assert rows == whole(byte_level, doc)[2]


def test_windows_of_several_texts_come_in_order(bert: Any) -> None:
    docs = [ZH("王小明在北京大学读书"), ZH("去了"), ZH(""), ZH("上海。")]
    batch, pieces = split(by(bert), docs, Windowing(6, 3, 1, 1))
    assert [bert.decode(ids, skip_special_tokens=True).replace(" ", "") for ids in batch.input_ids] == [
        "王小明在",
        "在北京大",
        "大学读书",
        "去了",
        "上海。",
    ]
    assert batch.token_type_ids is not None
    assert [ids.tolist() for ids in batch.token_type_ids] == [[0] * len(ids) for ids in batch.input_ids]
    assert [piece and "".join(piece.strings[1:-1]) for piece in pieces] == [doc.text or None for doc in docs]


def test_a_tokenizer_that_truncates_in_front_is_asked_for_windows_in_order(bert: Any) -> None:
    doc = ZH("王小明在北京大学读书去了")
    expected = pieces_of(bert, doc, 6, 3)
    bert.truncation_side = "left"
    try:
        found = pieces_of(bert, doc, 6, 3)
    finally:
        bert.truncation_side = "right"
    assert found.strings == expected.strings
    assert aligned(found) == aligned(expected)


def test_by_default_a_window_is_what_the_encoder_takes_and_a_stride_three_quarters(bert: Any) -> None:
    assert choose_windowing(by(bert), 40, None, None) == Windowing(40, 28, 1, 1)
    assert choose_windowing(by(bert), 4096, None, None) == Windowing(
        DEFAULT_WINDOW, (DEFAULT_WINDOW - 2) * 3 // 4, 1, 1
    )
    assert choose_windowing(by(bert), None, None, None) == Windowing(
        DEFAULT_WINDOW, (DEFAULT_WINDOW - 2) * 3 // 4, 1, 1
    )
    assert choose_windowing(by(bert), None, 4, None).stride == 1


def test_special_tokens_are_counted_at_both_ends(bert: Any) -> None:
    bare = PreTrainedTokenizerFast(tokenizer_object=character_tokenizer())
    assert choose_windowing(by(bare), 40, None, None) == Windowing(40, 30, 0, 0)
    pieces = pieces_of(bare, ZH("王小明" * 5), 4, 3)
    assert pieces.strings == list("王小明" * 5)
    assert aligned(pieces) == [[i] for i in range(15)]


def character_tokenizer() -> Tokenizer:
    """One without any special token."""
    tokenizer = Tokenizer(models.WordLevel({char: i for i, char in enumerate("王小明a?")}, unk_token="?"))
    tokenizer.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    return tokenizer


@pytest.mark.parametrize("limit, window", [(40, 41), (40, 512), (2, 3)])
def test_a_window_longer_than_the_encoder_takes_is_refused(bert: Any, limit: int, window: int) -> None:
    assert choose_windowing(by(bert), 40, 40, None).window == 40
    with pytest.raises(
        ValueError, match=f"window = {window}, but the encoder takes {limit}.*2 special.*set window"
    ):
        choose_windowing(by(bert), limit, window, None)


@pytest.mark.parametrize("window, room", [(3, 1), (2, 0), (1, 0), (0, 0), (-5, 0)])
def test_a_window_without_room_is_refused(bert: Any, window: int, room: int) -> None:
    with pytest.raises(ValueError, match=f"window = {window} leaves room for {room} "):
        choose_windowing(by(bert), None, window, None)


@pytest.mark.parametrize("window, first, last", [(10, 4, 8), (11, 5, 9), (4, 1, 2)])
def test_a_stride_leaves_no_gap_and_lets_only_neighbours_overlap(
    bert: Any, window: int, first: int, last: int
) -> None:
    for stride in range(first, last + 1):
        assert choose_windowing(by(bert), None, window, stride).stride == stride
    for stride in (first - 1, last + 1, 0, -1):
        with pytest.raises(ValueError, match=f"stride = {stride}, .* from {first} .* to {last} "):
            choose_windowing(by(bert), None, window, stride)


def test_the_pipeline_of_a_language_does_not_matter(bert: Any) -> None:
    """A text is split as a text, not token by token."""
    nlp: Language = spacy.blank("xx")
    doc = Doc(nlp.vocab, words=["hello", "unaffable"], spaces=[True, False])
    apart = Doc(nlp.vocab, words=["hel", "lo", "unaff", "able"], spaces=[False, True, False, False])
    assert pieces_of(bert, doc).ids == pieces_of(bert, apart).ids
    assert strings_by_token(bert, apart) == [["hello"], ["hello"], ["un", "##aff"], ["##able"]]
