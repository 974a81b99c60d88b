"""How what others wrote is shown."""

from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.messages import escape, listed, one_line, quote, short, show_path, some

ANY = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.binary()),
    lambda inside: st.one_of(st.lists(inside), st.dictionaries(st.text(), inside)),
)


@given(ANY)
def test_a_quoted_value_is_short_and_prints(value: object) -> None:
    assert quote(value).isprintable()
    assert len(quote(value)) < 1000


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_a_text_is_escaped_and_no_more_than_that(text: str) -> None:
    assert escape(text).isprintable()
    assert (escape(text) == text) == text.isprintable()
    assert short(text).isprintable()
    assert show_path(text).isprintable()
    assert one_line(text).isprintable()


def test_what_is_long_is_shortened_and_counted() -> None:
    assert quote("x" * 30_000) == f"'{'x' * 20}…'"
    assert short("x" * 30_000) == f"{'x' * 20}…"
    assert len(quote([["x" * 30_000] * 1000] * 1000)) < 1000
    deep: list = []
    for _ in range(100_000):
        deep = [deep]
    assert len(quote(deep)) < 1000
    assert len(show_path("x" * 30_000)) < 1000
    assert len(one_line("x " * 30_000)) < 5000
    assert listed(range(12)).endswith("9, 2 more")
    assert some([str(i) for i in range(6)]) == "0, 1, 2, 3, 2 more"


def test_what_steers_a_terminal_is_escaped() -> None:
    assert show_path("a\x1b[31m\n\u202eb") == "a\\x1b[31m\\n\\u202eb"
    # A name that is not UTF-8.
    assert show_path(b"\xff".decode("utf8", "surrogateescape")) == "\\udcff"
    assert show_path("数据/训练 集.bio") == "数据/训练 集.bio"


def test_a_format_error_shows_neither_more_than_a_line_nor_what_steers_a_terminal() -> None:
    said = str(FormatError("a\x1b[31m\n.bio", "tag \x1b[2J" + "x" * 30_000, "write\nit", 3))
    assert said.startswith("a\\x1b[31m\\n.bio:3: tag \\x1b[2Jx")
    assert said.endswith("; write\\nit")
    assert said.isprintable()
    assert len(said) < 1100
