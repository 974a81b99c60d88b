from collections import Counter
from itertools import accumulate
from typing import List, Optional, Tuple

import pytest
import spacy
from hypothesis import example, given
from hypothesis import strategies as st
from spacy.attrs import LANG
from spacy.language import Language
from spacy.tokens import Doc

from spacy_crf_ner.formats.doc_builder import META, ORIGIN, RELATIONS, Counts, DocMaker
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.source import Source
from spacy_crf_ner.labels import LabeledSpan
from spacy_crf_ner.tagging import BIO
from tests.formats.util import Column, sentences
from tests.util import refuse

BLANK = {lang: spacy.blank(lang) for lang in ("zh", "en", "xx")}


SOURCE = Source("in.bio")


def maker(lang: str = "zh", spans_key: Optional[str] = None) -> DocMaker:
    return DocMaker(lambda: BLANK[lang], spans_key=spans_key)


def make(columns: List[Column], lang: str = "zh") -> Tuple[Doc, Counts]:
    """The Doc of a sentence at line 3, and what was counted."""
    maker_ = maker(lang)
    tokens, tags = [token for token, _ in columns], [tag for _, tag in columns]
    return maker_.from_tokens(tokens, BIO.read(tags, refuse), SOURCE, 3), maker_.counts


def char_entities(columns: List[Column], separator: str) -> List[LabeledSpan]:
    """(start, end, label) in characters, by adding up lengths."""
    tokens = [token for token, _ in columns]
    ends = list(accumulate(map(len, tokens)))
    spans = []
    for start, end, label in BIO.read([tag for _, tag in columns], refuse):
        first = ends[start] - len(tokens[start]) + start * len(separator)
        spans.append((first, ends[end - 1] + (end - 1) * len(separator), label))
    return spans


def doc_entities(doc: Doc) -> List[LabeledSpan]:
    return [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]


@pytest.mark.parametrize(("lang", "separator"), [("zh", ""), ("en", " "), ("xx", " ")])
@given(columns=sentences())
@example(columns=[("　", "B-LOC"), ("　", "B-LOC"), ("　", "O")])
@example(columns=[(" ", "B-LOC"), (" ", "I-LOC")])
@example(columns=[("e", "B-PER"), ("\u0301", "I-PER"), ("👨", "B-PER"), ("\u200d", "O"), ("👩", "B-LOC")])
def test_no_text_and_no_entity_is_lost(lang: str, separator: str, columns: List[Column]) -> None:
    doc, counts = make(columns, lang)
    assert doc.text == separator.join(token for token, _ in columns)
    assert doc_entities(doc) == char_entities(columns, separator)
    assert doc.has_annotation("ENT_IOB")
    assert all(token.ent_iob_ in "BIO" and token.ent_iob_ for token in doc)
    assert (counts.docs, counts.tokens) == (1, len(columns))
    assert counts.characters == sum(len(token) for token, _ in columns)
    assert counts.entities == Counter(label for *_, label in doc_entities(doc))


@pytest.mark.parametrize("lang", ["zh", "en"])
@given(columns=sentences())
@example(columns=[("中", "O"), (" ", "O"), ("1", "O")])
def test_tokens_are_those_of_prediction_or_counted(lang: str, columns: List[Column]) -> None:
    doc, counts = make(columns, lang)
    words = [token.text for token in doc]
    in_file = [token for token, _ in columns]
    predicted = [token.text for token in BLANK[lang].make_doc(doc.text)]
    if counts.own_boundaries:
        assert words == in_file != predicted
        assert str(counts.first_own) == "in.bio:3"
        assert not counts.retokenised
    else:
        assert words == predicted
        assert counts.retokenised == (words != in_file)


@given(text=st.text("中国京津１Ａ。，", min_size=1))
def test_character_per_token_is_shared(text: str) -> None:
    doc, counts = make([(character, "O") for character in text])
    assert (counts.retokenised, counts.own_boundaries) == (0, 0)
    assert [token.text for token in doc] == list(text)


def test_words_become_the_tokenizer_s_characters() -> None:
    doc, counts = make([("北京", "B-LOC"), ("IBM", "B-ORG")])
    assert (counts.retokenised, counts.own_boundaries) == (1, 0)
    assert [token.text for token in doc] == list("北京IBM")
    assert [ent.text for ent in doc.ents] == ["北京", "IBM"]


def test_entity_inside_a_token_keeps_the_file_s_tokens() -> None:
    columns = [("中", "O"), ("　", "B-LOC"), ("　", "O"), ("国", "B-LOC")]
    doc, counts = make(columns)
    assert (counts.retokenised, counts.own_boundaries) == (0, 1)
    assert [token.text for token in doc] == [token for token, _ in columns]
    assert [(ent.start, ent.end) for ent in doc.ents] == [(1, 2), (3, 4)]


def test_tokenizer_that_changes_the_text_is_not_used() -> None:
    def shouting(text: str) -> Doc:
        return Doc(nlp.vocab, words=list(text.upper()), spaces=[False] * len(text))

    nlp: Language = spacy.blank("zh")
    nlp.tokenizer = shouting
    maker_ = DocMaker(lambda: nlp)
    assert maker_.from_tokens(["a", "b"], [(0, 1, "LOC")], SOURCE, 1).text == "ab"
    assert maker_.from_text("a b  c", [(4, 6, "LOC")], SOURCE, 1).text == "a b  c"
    assert maker_.counts.own_boundaries == 2


def test_adjacent_entities_of_one_type_stay_two() -> None:
    doc, _ = make([("京", "B-LOC"), ("津", "B-LOC")])
    assert [ent.text for ent in doc.ents] == ["京", "津"]


TEXT = "Anti-Trump  people in New York paid $5bn. "


def spans_of(text: str) -> "st.SearchStrategy[List[LabeledSpan]]":
    """Any spans of a text, nested, overlapping and equal ones among them."""
    place = st.integers(0, len(text))
    spans = st.tuples(place, place, st.sampled_from(["A", "B.c-d"])).filter(lambda span: span[0] < span[1])
    return st.lists(spans, max_size=5)


@given(spans=spans_of(TEXT))
@example(spans=[(10, 12, "A"), (11, 12, "A")])  # a space that would belong to the token before it
def test_all_spans_of_a_text_are_kept_and_the_longest_are_entities(spans: List[LabeledSpan]) -> None:
    maker_ = maker("en", "all")
    doc = maker_.from_text(TEXT, spans, SOURCE, 1)
    assert doc.text == TEXT
    kept = [(span.start_char, span.end_char, span.label_) for span in doc.spans["all"]]
    assert kept == list(dict.fromkeys(spans))
    entities = doc_entities(doc)
    assert set(entities) <= set(spans)
    for start, end, _ in kept:
        overlapping = [entity for entity in entities if start < entity[1] and entity[0] < end]
        assert overlapping
    counts = maker_.counts
    assert counts.duplicates == len(spans) - len(kept)
    assert counts.overlapping == len(kept) - len(entities)
    assert counts.characters == len(TEXT)
    predicted = {(token.idx, token.idx + len(token)) for token in BLANK["en"].make_doc(TEXT)}
    edges = {edge for token in predicted for edge in token}
    if all(start in edges and end in edges for start, end, _ in spans) and not counts.own_boundaries:
        assert {(token.idx, token.idx + len(token)) for token in doc} == predicted


def test_of_nested_entities_the_longest_is_kept() -> None:
    maker_ = maker(spans_key="all")
    doc = maker_.from_text("投资永隆银行", [(2, 4, "A"), (2, 6, "B"), (4, 6, "A"), (0, 2, "A")], SOURCE, 1)
    assert [(ent.text, ent.label_) for ent in doc.ents] == [("投资", "A"), ("永隆银行", "B")]
    assert [span.text for span in doc.spans["all"]] == ["永隆", "永隆银行", "银行", "投资"]
    assert maker_.counts.overlapping == 2


def test_without_a_key_no_spans_are_kept() -> None:
    assert not maker().from_text("中国", [(0, 2, "A")], SOURCE, 1).spans


def test_a_token_is_cut_where_an_entity_begins_or_ends() -> None:
    maker_ = maker("en")
    doc = maker_.from_text("anti-Trumpism in NY", [(5, 10, "PER")], SOURCE, 7)
    assert [token.text for token in doc] == ["anti", "-", "Trump", "ism", "in", "NY"]
    assert doc_entities(doc) == [(5, 10, "PER")]
    assert doc.text == "anti-Trumpism in NY"
    assert (maker_.counts.own_boundaries, str(maker_.counts.first_own)) == (1, "in.bio:7")


def test_relations_name_their_entities_by_characters() -> None:
    maker_ = maker("en")
    tokens = ["In", "New", "York", "lives", "Ann"]
    spans = [(4, 5, "PER"), (1, 3, "LOC")]
    doc = maker_.from_tokens(tokens, spans, SOURCE, 1, meta={"id": 7}, relations=[("in", 0, 1)])
    relation = {"label": "in", "head": [18, 21, "PER"], "tail": [3, 11, "LOC"]}
    assert doc.user_data[RELATIONS] == [relation]
    assert doc.user_data[META] == {"id": 7}
    assert str(doc.user_data[ORIGIN]) == "in.bio:1"
    assert maker_.counts.relations == 1


def test_an_empty_text_is_counted_and_gives_no_token() -> None:
    maker_ = maker()
    assert len(maker_.from_text("", [], SOURCE, 1)) == 0
    assert (maker_.counts.empty, maker_.counts.docs) == (1, 0)


@pytest.mark.parametrize("span", [(0, 0, "A"), (2, 1, "A"), (-1, 1, "A"), (0, 3, "A"), (2, 3, "A")])
def test_a_span_outside_is_refused(span: LabeledSpan) -> None:
    for call in (maker().from_text, maker().from_tokens):
        with pytest.raises(
            FormatError, match=rf"in\.bio:5: entity .*{span[0]}, {span[1]}.* does not fit"
        ) as caught:
            call("中国", [span], SOURCE, 5)
        assert "; count " in str(caught.value)


@pytest.mark.parametrize("label", ["", " ", "　"])
def test_a_span_without_a_label_is_refused(label: str) -> None:
    with pytest.raises(FormatError, match=r"in\.bio:5: .*no label"):
        maker().from_text("中国", [(0, 1, label)], SOURCE, 5)


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(FormatError, match=r"in\.bio:5: a lone surrogate, '\\ud83d', at character 1"):
        maker().from_text("中\ud83d", [], SOURCE, 5)


def test_the_pipeline_is_renewed() -> None:
    maker_ = DocMaker(lambda: spacy.blank("zh"), renew_every=2)
    vocabs = [maker_.from_text("中", [], SOURCE, 1).vocab for _ in range(5)]
    assert [vocabs[i] is vocabs[i + 1] for i in range(4)] == [True, False, True, False]


@pytest.mark.parametrize(("lang", "text"), [("ko", "서울 시 에"), ("th", "ไปกรุงเทพ"), ("xx", "a b c")])
def test_words_are_joined_as_the_language_writes(lang: str, text: str) -> None:
    """spaCy says of Korean that it has no letters, as of Chinese; but it writes spaces."""
    nlp = spacy.blank("xx")
    nlp.vocab.lex_attr_getters[LANG] = lambda _: lang  # type: ignore[attr-defined]
    tokens = text.split() if " " in text else ["ไป", "กรุงเทพ"]
    doc = DocMaker(lambda: nlp).from_tokens(tokens, [(0, 1, "LOC")], SOURCE, 1)
    assert doc.text == text


@pytest.mark.parametrize(
    ("lang", "tokens", "joined"),
    [("zh", ["Hello", "world"], 1), ("en", ["Hello", "world"], 0), ("zh", ["a", "b", "中国", "IBM"], 0)],
)
def test_latin_words_that_are_joined_are_counted(lang: str, tokens: List[str], joined: int) -> None:
    maker_ = maker(lang)
    maker_.from_tokens(tokens, [], SOURCE, 1)
    assert maker_.counts.joined == joined


def test_tokens_of_an_entity_that_is_left_out_are_missing() -> None:
    make = DocMaker(lambda: spacy.blank("en"))
    doc = make.from_tokens(["a", "b", "c", "d", "e"], [(0, 3, "X"), (2, 4, "Y")], Source("a"), 1)
    # 3 begins an entity, 1 is inside one, 2 is O and 0 is missing.
    assert [token.ent_iob for token in doc] == [3, 1, 1, 0, 2]
    assert make.counts.overlapping == 1
