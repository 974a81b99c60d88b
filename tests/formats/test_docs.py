from itertools import accumulate
from typing import List, Tuple

import pytest
import spacy
from hypothesis import example, given
from hypothesis import strategies as st
from spacy.language import Language
from spacy.tokens import Doc

from spacy_crf_ner.formats.bio import Sentence
from spacy_crf_ner.formats.docs import Boundaries, sentence_to_doc
from spacy_crf_ner.labels import tags_to_spans
from tests.formats.util import Column, sentences

BLANK = {lang: spacy.blank(lang) for lang in ("zh", "en", "xx")}


def sentence_of(columns: List[Column]) -> Sentence:
    return Sentence([token for token, _ in columns], [tag for _, tag in columns], 1)


def char_entities(sentence: Sentence, separator: str) -> List[Tuple[int, int, str]]:
    """(start, end, type) in characters, by adding up lengths."""
    ends = list(accumulate(map(len, sentence.tokens)))
    spans = []
    for start, end, label in tags_to_spans(sentence.tags):
        first = ends[start] - len(sentence.tokens[start]) + start * len(separator)
        spans.append((first, ends[end - 1] + (end - 1) * len(separator), label))
    return spans


def doc_entities(doc: Doc) -> List[Tuple[int, int, str]]:
    return [(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents]


@pytest.mark.parametrize(("lang", "separator"), [("zh", ""), ("en", " "), ("xx", " ")])
@given(columns=sentences())
@example(columns=[("　", "B-LOC"), ("　", "B-LOC"), ("　", "O")])
@example(columns=[(" ", "B-LOC"), (" ", "I-LOC")])
@example(columns=[("e", "B-PER"), ("\u0301", "I-PER"), ("👨", "B-PER"), ("\u200d", "O"), ("👩", "B-LOC")])
def test_no_text_and_no_entity_is_lost(lang: str, separator: str, columns: List[Column]) -> None:
    sentence = sentence_of(columns)
    doc, _ = sentence_to_doc(BLANK[lang], sentence)
    assert doc.text == separator.join(sentence.tokens)
    assert doc_entities(doc) == char_entities(sentence, separator)
    assert doc.has_annotation("ENT_IOB")
    assert all(token.ent_iob_ in "BIO" and token.ent_iob_ for token in doc)


@pytest.mark.parametrize("lang", ["zh", "en"])
@given(columns=sentences())
@example(columns=[("中", "O"), (" ", "O"), ("1", "O")])
def test_tokens_are_those_of_prediction_or_counted(lang: str, columns: List[Column]) -> None:
    sentence = sentence_of(columns)
    doc, boundaries = sentence_to_doc(BLANK[lang], sentence)
    words = [token.text for token in doc]
    predicted = [token.text for token in BLANK[lang].make_doc(doc.text)]
    if boundaries is Boundaries.FILE:
        assert words == sentence.tokens != predicted
    else:
        assert words == predicted
        assert (boundaries is Boundaries.SHARED) == (words == sentence.tokens)


@given(text=st.text("中国京津１Ａ。，", min_size=1))
def test_character_per_token_is_shared(text: str) -> None:
    doc, boundaries = sentence_to_doc(BLANK["zh"], Sentence(list(text), ["O"] * len(text), 1))
    assert boundaries is Boundaries.SHARED
    assert [token.text for token in doc] == list(text)


def test_words_become_the_tokenizer_s_characters() -> None:
    doc, boundaries = sentence_to_doc(BLANK["zh"], Sentence(["北京", "IBM"], ["B-LOC", "B-ORG"], 1))
    assert boundaries is Boundaries.TOKENIZER
    assert [token.text for token in doc] == list("北京IBM")
    assert [ent.text for ent in doc.ents] == ["北京", "IBM"]


def test_entity_inside_a_token_keeps_the_file_s_tokens() -> None:
    sentence = Sentence(["中", "　", "　", "国"], ["O", "B-LOC", "O", "B-LOC"], 1)
    doc, boundaries = sentence_to_doc(BLANK["zh"], sentence)
    assert boundaries is Boundaries.FILE
    assert [token.text for token in doc] == sentence.tokens
    assert [(ent.start, ent.end) for ent in doc.ents] == [(1, 2), (3, 4)]


def test_tokenizer_that_changes_the_text_is_not_used() -> None:
    def shouting(text: str) -> Doc:
        return Doc(nlp.vocab, words=list(text.upper()), spaces=[False] * len(text))

    nlp: Language = spacy.blank("zh")
    nlp.tokenizer = shouting
    doc, boundaries = sentence_to_doc(nlp, Sentence(["a", "b"], ["B-LOC", "O"], 1))
    assert boundaries is Boundaries.FILE
    assert doc.text == "ab"


def test_adjacent_entities_of_one_type_stay_two() -> None:
    doc, _ = sentence_to_doc(BLANK["zh"], Sentence(list("京津"), ["B-LOC", "B-LOC"], 1))
    assert [ent.text for ent in doc.ents] == ["京", "津"]
