from itertools import pairwise
from typing import Callable, Iterable

import numpy
import pytest
import spacy
from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_crf_ner.corpus.stats import MAX_CASES, MAX_EXCERPT, Case, SplitStats, Tally
from spacy_crf_ner.formats.doc_builder import ORIGIN, Origin
from tests.corpus.util import PER, in_english
from tests.evaluation.util import make_doc

ZH, EN = spacy.blank("zh"), spacy.blank("en")


def split_stats(name: str, docs: Iterable[Doc], tokenize: Callable[[str], Doc]) -> SplitStats:
    """What a split of these docs holds."""
    stats = SplitStats(name)
    for doc in docs:
        stats.add(doc, tokenize)
    return stats


def stats_of(*docs: Doc, nlp: Language = ZH) -> SplitStats:
    return split_stats("train", docs, nlp.tokenizer)


def test_stats_count_what_is_there() -> None:
    stats = stats_of(
        make_doc("张三李四去北京", [(0, 2, "PER"), (2, 4, "PER"), (5, 7, "LOC")]),
        make_doc("《论语》", [(0, 4, "BOOK")]),
        make_doc("今天下雨", missing=[(1, 3)]),
    )
    assert (stats.docs, stats.docs_without_entity) == (3, 1)
    assert (stats.characters, stats.tokens, stats.missing_tokens, stats.misaligned_tokens) == (15, 15, 2, 0)
    assert (stats.entities, stats.types) == (4, {"PER": 2, "LOC": 1, "BOOK": 1})
    assert stats.docs_with_type == {"PER": 1, "LOC": 1, "BOOK": 1}
    assert stats.mentions["张三", "PER"] == 1
    assert stats.adjacent == 1
    assert (stats.words["张"], stats.letters["》"]) == (1, 1)
    assert stats.tallies["enclosed"].types == {"BOOK": 1}


def test_characters_are_not_tokens() -> None:
    stats = stats_of(in_english("Paul went"), in_english("Paul"), nlp=EN)
    assert (stats.tokens, stats.characters) == (3, 13)
    assert (stats.words, stats.letters["l"]) == ({"Paul": 2, "went": 1}, 2)


def test_unseen_mentions_differ_in_text_or_type() -> None:
    train = stats_of(make_doc("张三去北京", [(0, 2, "PER"), (3, 5, "LOC")]))
    dev = stats_of(make_doc("北京张三", [(0, 2, "ORG"), (2, 4, "PER")]), make_doc("李四", PER))
    assert dev.unseen(train) == {"ORG": 1, "PER": 1}


def test_lengths_are_those_of_docs_that_are_there() -> None:
    stats = SplitStats("train")
    stats.lengths.extend([*range(1, 100), 1000])
    (lengths,) = stats.measure(98)
    assert (lengths.unit, lengths.median, lengths.p99, lengths.longest) == ("tokens", 51, 1000, 1000)
    assert (lengths.window, lengths.longer) == (98, 2)


def test_lengths_of_nothing() -> None:
    (lengths,) = SplitStats("train").measure(128)
    assert (lengths.median, lengths.p99, lengths.longest, lengths.longer) == (0, 0, 0, 0)


def test_tokens_that_the_tokenizer_cuts_further_are_not_misaligned() -> None:
    stats = stats_of(make_doc(["Pa", "ul", "去", "北京"], [(0, 1, "PER"), (3, 4, "LOC")]), nlp=ZH)
    assert stats.misaligned_tokens == stats.tallies["misaligned_entities"].count == 0


def test_tokens_that_the_tokenizer_joins_are_misaligned() -> None:
    stats = stats_of(make_doc(["an", "ti", " ", "war"], [(3, 4, "X")]), nlp=EN)
    assert (stats.misaligned_tokens, stats.tallies["misaligned_entities"].count) == (1, 0)


def test_misaligned_entity_begins_or_ends_inside_a_token() -> None:
    docs = [
        Doc(EN.vocab, words=["New", "York", "based"], spaces=[True, False, False], ents=["B-LOC", "I-LOC", "O"]),
        Doc(EN.vocab, words=["anti", "Trump", "!"], spaces=[False] * 3, ents=["O", "B-PER", "O"]),
        Doc(EN.vocab, words=["in", "Rome"], spaces=[True, False], ents=["O", "B-LOC"]),
    ]
    tally = stats_of(*docs, nlp=EN).tallies["misaligned_entities"]
    assert (tally.count, tally.types) == (2, {"LOC": 1, "PER": 1})
    assert [(case.text, case.note) for case in tally.cases] == [
        ("New York", "in the tokens New | Yorkbased"),
        ("Trump", "in the tokens antiTrump"),
    ]


def test_whitespace_is_not_misaligned() -> None:
    doc = Doc(EN.vocab, words=["a", " ", " ", "b"], spaces=[True, False, False, False])
    assert [token.text for token in EN.make_doc(doc.text)] == ["a", "  ", "b"]
    assert stats_of(doc, nlp=EN).misaligned_tokens == 0


def test_tokenizer_that_changes_the_text() -> None:
    tokenizer = spacy.blank("en").tokenizer
    stats = split_stats(
        "train", [in_english("in Rome", (1, 2, "LOC")), in_english("ROME")], lambda text: tokenizer(text.upper())
    )
    assert stats.tallies["changed_texts"].count == 1
    assert stats.misaligned_tokens == stats.tallies["misaligned_entities"].count == 0


def test_tokenizer_that_changes_spaces_alone() -> None:
    doc = in_english("in Rome", (1, 2, "LOC"))
    stats = split_stats("train", [doc], lambda text: Doc(EN.vocab, words=text.split(), spaces=[False, False]))
    assert stats.tallies["changed_texts"].count == 1


def test_entity_across_a_sentence_end_counts_once_and_where_sentences_are_annotated() -> None:
    def doc(*starts: int) -> Doc:
        made = make_doc("在张三丰在", [(1, 4, "PER")])
        for i in starts:
            made[i].is_sent_start = True
        return made

    assert stats_of(doc()).tallies["crossed_sentences"].count == 0
    assert stats_of(doc(0, 1, 4)).tallies["crossed_sentences"].count == 0
    assert stats_of(doc(0, 2, 3)).tallies["crossed_sentences"].count == 1


def test_entity_without_a_label() -> None:
    doc = make_doc("在张三")
    doc.set_ents([], blocked=[doc[1:2]], default="outside")
    tally = stats_of(doc).tallies["empty_label"]
    assert (tally.count, [case.text for case in tally.cases]) == (1, ["张"])


def test_cases_name_the_origin() -> None:
    doc = make_doc(["北", "京", "\n"], [(0, 3, "LOC")])
    doc.user_data[ORIGIN] = Origin("train.bio", 7)
    assert stats_of(doc).tallies["whitespace_edges"].cases == [Case("train.bio:7", "北京\n", "LOC")]


def test_tally_keeps_a_few_different_cases() -> None:
    tally = Tally()
    for i in range(30):
        tally.add(Case(f"train.bio:{i}", "北京。" if i < 5 else f"{i}。", "LOC"))
    assert (tally.count, len(tally.cases)) == (30, MAX_CASES)
    assert [case.text for case in tally.cases[:2]] == ["北京。", "5。"]


def test_tally_tells_types_apart_and_cuts_texts() -> None:
    tally = Tally()
    tally.add(Case("a", "长" * 1000, "LOC"))
    tally.add(Case("b", "长" * 1000, "ORG"))
    assert [(len(case.text), case.label) for case in tally.cases] == [(MAX_EXCERPT, "LOC"), (MAX_EXCERPT, "ORG")]


@pytest.mark.parametrize("lang", ["zh", "en"])
def test_fast_comparison_agrees_with_spacys(lang: str) -> None:
    """Of tokens that are cut at random, as many are misaligned as `spacy debug data` says."""
    nlp = spacy.blank(lang)
    text = "Paul's anti-war 北京 talk, in the U.S. on 3.5 days!"
    rng = numpy.random.default_rng(0)
    for _ in range(20):
        cuts = [0, *sorted({int(i) for i in rng.integers(1, len(text), 12)}), len(text)]
        doc = Doc(nlp.vocab, words=[text[a:b] for a, b in pairwise(cuts)], spaces=[False] * (len(cuts) - 1))
        example = Example(nlp.make_doc(text), doc)
        lengths = example.alignment.x2y.lengths
        expected = sum(lengths[t.i] != 1 for t in example.predicted if not t.orth_.isspace())
        assert stats_of(doc, nlp=nlp).misaligned_tokens == expected
