from typing import Dict, List, Union

import pytest

from spacy_crf_ner.corpus.entity_edges import Edge, edge_of, partner_marks
from tests.evaluation.util import make_doc


@pytest.mark.parametrize(
    ("tokens", "edge"),
    [
        ("北京", Edge.PLAIN),
        ("C++", Edge.PLAIN),
        ("上海（浦东）", Edge.PLAIN),
        ("《论语》注", Edge.PLAIN),
        ("哈利·波特", Edge.PLAIN),
        (["U.S."], Edge.PLAIN),
        (["@paul"], Edge.PLAIN),
        (["Yahoo!", "Inc."], Edge.PLAIN),
        ("《论语》", Edge.ENCLOSED),
        ("“五一”", Edge.ENCLOSED),
        ("„Bild“", Edge.ENCLOSED),
        ("»Bild«", Edge.ENCLOSED),
        ('"论语"', Edge.ENCLOSED),
        ("「『论』语」", Edge.ENCLOSED),
        ("（甲）和（乙）", Edge.PLAIN),
        ("北京。", Edge.PUNCTUATION),
        ("，北京", Edge.PUNCTUATION),
        ("#北京", Edge.PUNCTUATION),
        ("北京》", Edge.PUNCTUATION),
        ("《北京", Edge.PUNCTUATION),
        ("）北京（", Edge.PUNCTUATION),
        ("“北京》", Edge.PUNCTUATION),
        ("”北京”", Edge.PUNCTUATION),
        ('北京"', Edge.PUNCTUATION),
        ("。", Edge.PUNCTUATION),
        (["!", "Yahoo"], Edge.PUNCTUATION),
        (["北", "京", "\n"], Edge.WHITESPACE),
        (["\u3000", "北", "京"], Edge.WHITESPACE),
        (["Dubbz\ufeff"], Edge.WHITESPACE),
        (["\u200b", "北", "京", "。"], Edge.WHITESPACE),
        ([" "], Edge.EMPTY),
        (["\n", "\u200b"], Edge.EMPTY),
    ],
)
def test_edges(tokens: Union[str, List[str]], edge: Edge) -> None:
    doc = make_doc(["在", *tokens, "在"], [(1, 1 + len(tokens), "LOC")])
    assert edge_of(doc.ents[0]) is edge


@pytest.mark.parametrize(
    ("text", "partners"),
    [
        ("", {}),
        ("(a)", {0: 2, 2: 0}),
        ("((a)", {1: 3, 3: 1}),
        ("a))", {}),
        ("(a))", {0: 2, 2: 0}),
        ("‘“a”’", {0: 4, 4: 0, 1: 3, 3: 1}),
        ("““a”", {1: 3, 3: 1}),
        ("'a\"", {}),
        ("''", {0: 1, 1: 0}),
    ],
)
def test_marks_are_partners_of_their_own_kind(text: str, partners: Dict[int, int]) -> None:
    assert partner_marks(text) == partners
