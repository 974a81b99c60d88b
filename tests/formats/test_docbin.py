import gzip
import json
from pathlib import Path

import numpy
import pytest
import spacy
from spacy.tokens import Doc, DocBin, Span

from spacy_crf_ner.formats.doc_builder import META, ORIGIN, RELATIONS, DocMaker, Origin
from spacy_crf_ner.formats.docbin import read_spacy
from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.source import Source
from tests.formats.reading import BLANK, found_in, put, stored


def full_doc() -> Doc:
    """A doc with everything that a DocBin can save."""
    doc = Doc(
        BLANK["zh"].vocab,
        words=["张三", "去", "上海", "。", "好"],
        spaces=[False, True, False, False, False],
        sent_starts=[True, False, False, False, True],
        tags=["NR", "VV", "NR", "PU", "VA"],
    )
    doc.set_ents([Span(doc, 0, 1, "PER", kb_id="Q1"), Span(doc, 2, 3, "LOC")], missing=[Span(doc, 4, 5)])
    doc.spans["sc"] = [Span(doc, 0, 1, "PER"), Span(doc, 0, 3, "ORG")]
    doc.user_data[META] = {"id": 7}
    doc.user_data[RELATIONS] = [{"label": "LIVES", "head": [0, 2, "PER"], "tail": [3, 5, "LOC"]}]
    doc.cats = {"news": 1.0}
    return doc


def test_all_that_is_saved_is_read(tmp_path: Path) -> None:
    made = full_doc()
    path = put(tmp_path, DocBin(store_user_data=True, docs=[made]).to_bytes())
    (doc,) = found_in(path, format="spacy").docs
    assert doc.text == made.text == "张三去 上海。好"
    for attribute in ("ORTH", "SPACY", "ENT_IOB", "ENT_TYPE", "ENT_KB_ID", "SENT_START", "TAG"):
        assert (doc.to_array(attribute) == made.to_array(attribute)).all(), attribute
    assert [(span.start, span.end, span.label_) for span in doc.spans["sc"]] == [(0, 1, "PER"), (0, 3, "ORG")]
    assert doc.user_data[ORIGIN] == Origin(str(path), 1, "doc")
    assert doc.user_data[META] == {"id": 7}
    assert json.loads(json.dumps(doc.user_data[RELATIONS])) == made.user_data[RELATIONS]
    assert doc.cats == {"news": 1.0}
    assert doc[4].ent_iob_ == ""


def test_tokens_characters_and_entities_are_counted(tmp_path: Path) -> None:
    docs = [full_doc(), Doc(BLANK["zh"].vocab, words=["一二三四五六七八九十"], spaces=[False])]
    found = found_in(put(tmp_path, DocBin(docs=docs).to_bytes()))
    counts = found.counts
    assert (counts.docs, counts.tokens, counts.characters) == (2, 6, 18)
    assert (counts.longest_tokens, counts.longest_characters) == (5, 10)
    assert counts.entities == {"PER": 1, "LOC": 1}
    assert str(found.docs[1].user_data[ORIGIN]).endswith("a.txt: doc 2")


def test_vocab_is_that_of_the_maker(tmp_path: Path) -> None:
    data = DocBin(docs=[full_doc()]).to_bytes()
    nlp = spacy.blank("zh")
    (doc,) = read_spacy(Source(put(tmp_path, data)), DocMaker(lambda: nlp))
    assert doc.vocab is nlp.vocab
    assert "上海" in nlp.vocab.strings


def test_unknown_spaces_stay_unknown(tmp_path: Path) -> None:
    data = DocBin(docs=[Doc(BLANK["en"].vocab, words=["a", "b"])]).to_bytes()
    (doc,) = found_in(put(tmp_path, data), lang="en").docs
    assert doc.has_unknown_spaces


@pytest.mark.parametrize(
    "content",
    [
        b"",
        "中 O\n".encode(),
        DocBin(docs=[full_doc()]).to_bytes()[:-9],
        DocBin(docs=[full_doc()]).to_bytes()[:20],
        b"x\x9cgarbage",
        gzip.compress(b"garbage", mtime=0),
        numpy.arange(9).tobytes(),
    ],
    ids=["empty", "bio", "cut off", "cut off early", "garbage", "compressed garbage", "array"],
)
def test_what_is_no_docbin_is_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(FormatError, match=r"a\.txt: not a DocBin \(.*; write it again with `") as caught:
        found_in(put(tmp_path, content), format="spacy")
    assert "\n" not in str(caught.value)


def test_docbin_that_is_cut_off_is_told_by_its_beginning(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="not a DocBin"):
        found_in(put(tmp_path, DocBin(docs=[full_doc()]).to_bytes()[:-9]))


def test_a_doc_bin_holds_all_annotation_and_not_where_it_was_read() -> None:
    nlp = spacy.blank("zh")
    docs = []
    for i in range(6):
        doc = nlp.make_doc(f"甲乙丙丁{i}")
        doc.set_ents([Span(doc, 0, 2, "A", kb_id="Q1")], missing=[Span(doc, 4, 5)], default="outside")
        doc.spans["all"] = [Span(doc, 0, 2, "A"), Span(doc, 1, 4, "B")]
        doc.user_data.update({ORIGIN: Origin("x", i), META: {"id": i}, RELATIONS: [{"label": "r"}]})
        doc.cats = {"news": 0.5}
        for token in doc:
            token.tag_, token.lemma_, token.pos_ = "NN", f"l{token.i}", "NOUN"
            token.is_sent_start = token.i in (0, 3)
        docs.append(doc)
    expected = [doc.to_json() for doc in docs]
    found = list(stored(docs).get_docs(spacy.blank("zh").vocab))
    for i, doc in enumerate(found):
        assert doc.to_json() == expected[i]
        assert doc.user_data == {META: {"id": i}, RELATIONS: ({"label": "r"},)}
        assert [(span.start, span.end, span.label_) for span in doc.spans["all"]] == [(0, 2, "A"), (1, 4, "B")]
        assert [token.ent_iob_ for token in doc] == ["B", "I", "O", "O", ""]
        assert [token.is_sent_start for token in doc] == [True, False, False, True, False]
        assert (doc.ents[0].kb_id_, doc[1].lemma_, doc[1].pos_, doc[1].tag_) == ("Q1", "l1", "NOUN", "NN")
    assert len(found) == 6


def test_user_data_of_a_later_doc_leaves_the_earlier_ones_without() -> None:
    docs = [BLANK["zh"].make_doc(text) for text in "甲乙丙"]
    docs[1].user_data[META] = {"id": 1}
    found = stored(docs).get_docs(spacy.blank("zh").vocab)
    assert [doc.user_data for doc in found] == [{}, {META: {"id": 1}}, {}]
    assert not stored(docs[::2]).store_user_data


def test_user_data_that_cannot_be_saved_is_told() -> None:
    doc = BLANK["zh"].make_doc("中")
    doc.user_data.update({ORIGIN: Origin("a.txt", 3), "x": object()})
    with pytest.raises(FormatError, match=r"^a\.txt:3: the user data of the doc cannot be saved .*JSON can hold$"):
        stored([doc])
