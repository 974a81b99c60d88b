import re
from html.parser import HTMLParser
from typing import Any, List, Optional, Sequence, Tuple

from spacy_crf_ner.evaluation.html_report import render_page, type_colors
from tests.evaluation.util import Entity, make_example

WORDS = "张三去北京"
GOLD: Sequence[Entity] = [(0, 2, "PER"), (3, 5, "LOC")]


class Marks(HTMLParser):
    """Collects what the page shows: (class of the mark, its text with type and verdict), and all other text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.marks: List[Tuple[str, str]] = []
        self.tags: List[str] = []
        self._class: Optional[str] = None
        self._text: List[str] = []
        self.feed(html.split("<article", 1)[-1] if "<article" in html else "")

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        if tag == "mark":
            self._class, self._text = dict(attrs)["class"], []

    def handle_endtag(self, tag: str) -> None:
        if tag == "mark" and self._class is not None:
            self.marks.append((self._class.split()[-1], "|".join(self._text)))

    def handle_data(self, data: str) -> None:
        self._text.append(data)


def page(*egs: Any, **settings: Any) -> str:
    return render_page(egs, title="a model", lang="zh", **settings).html


def test_a_right_doc_is_drawn_once() -> None:
    html = page(make_example(WORDS, GOLD, GOLD))
    assert Marks(html).marks == [("correct", "张三|PER"), ("correct", "北京|LOC")]
    assert html.count('class="row"') == 1


def test_missed_and_spurious_entities_are_marked() -> None:
    html = page(make_example(WORDS, GOLD, [(0, 2, "PER"), (2, 5, "LOC")]))
    assert Marks(html).marks == [
        ("correct", "张三|PER"),
        ("missed", "北京|LOC|missed"),
        ("correct", "张三|PER"),
        ("spurious", "去北京|LOC|spurious"),
    ]
    assert "1 missed, 1 spurious" in html


def test_texts_types_and_titles_are_escaped() -> None:
    words = ["<b>", "粗", "</b>", "&"]
    example = make_example(words, [(0, 3, "<i>")], [(1, 2, "<i>")])
    html = render_page([example], title="<u>", lang="zh").html
    for raw in ("<b>", "<i>", "<u>"):
        assert raw not in html
    assert ("missed", "<b>粗</b>|<i>|missed") in Marks(html).marks
    assert "&amp;" in html
    color = type_colors(["<i>"])["<i>"]
    assert html.count(f"background: {color}") == 3, "the legend and both rows"


def test_limit_counts_the_docs_shown() -> None:
    wrong, right = make_example(WORDS, GOLD, []), make_example(WORDS, GOLD, GOLD)
    egs = [right, wrong, right, wrong, wrong]
    for limit, errors_only, numbers in ((2, False, "12"), (2, True, "24"), (9, True, "245"), (9, False, "12345")):
        shown = render_page(egs, title="", lang="zh", limit=limit, errors_only=errors_only)
        assert re.findall(r'<article id="doc-(\d+)"', shown.html) == list(numbers)
        assert shown.n_shown == len(numbers)
        assert f"Showing {len(numbers)} of 5 documents" in shown.html


def test_figures_are_those_of_all_docs() -> None:
    html = page(make_example(WORDS, GOLD, GOLD), make_example(WORDS, GOLD, []), limit=1)
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd>(.*?)</dd>", html))
    assert (figures["Documents"], figures["Gold"], figures["Missed"]) == ("2", "4", "2")
    assert (figures["Precision"], figures["Recall"], figures["F"]) == ("100.0", "50.0", "66.7")


def test_page_needs_nothing_else_and_says_its_language() -> None:
    html = page(make_example(WORDS, GOLD, GOLD))
    assert html.startswith('<!DOCTYPE html>\n<html lang="zh" dir="ltr">')
    assert '<meta charset="utf-8">' in html
    assert not re.search(r"(src|href)=\"(?!#)|url\(|@import", html)


def test_docs_without_entities_are_drawn() -> None:
    html = page(make_example(WORDS, [], []))
    assert WORDS in html
    assert "<dd>–</dd>" in html


def test_colours_do_not_depend_on_order_and_differ() -> None:
    types = ["公司", "学校", "人名", "LOC", "PER", *(f"类{i}" for i in range(19))]
    colors = type_colors(types)
    assert type_colors(reversed(types)) == colors
    assert len(set(colors.values())) == len(types)
    assert colors["LOC"] == "#ff9561", "displaCy's own"


def test_more_types_than_hues() -> None:
    assert len(type_colors(f"类{i}" for i in range(60))) == 60
