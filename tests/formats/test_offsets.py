from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spacy_crf_ner.formats.errors import FormatError
from spacy_crf_ner.formats.offsets import Offsets
from spacy_crf_ner.formats.records import Record
from spacy_crf_ner.formats.source import Source

RECORD = Record({}, 3, Source("x.jsonl"))


@given(text=st.text("a中😀𠮷\ufe0f\uffff", max_size=8), data=st.data())
def test_utf_16_offsets_become_characters(text: str, data: st.DataObject) -> None:
    """Against the encoder: what stands before and inside an entity, in units of two bytes."""
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, len(text)))
    first, last = (len(text[:offset].encode("utf-16-le")) // 2 for offset in (start, end))
    if start < end:
        assert Offsets(text, "utf-16").span(RECORD, first, last, "X") == (start, end, "X")
        assert Offsets(text, "utf-16").mention(first, last) == text[start:end]
        assert Offsets(text, "characters").span(RECORD, start, end, "X") == (start, end, "X")
        assert Offsets(text, "characters").mention(start, end) == text[start:end]
    else:
        assert Offsets(text, "utf-16").mention(first, last) is None


@pytest.mark.parametrize(
    ("unit", "start", "end", "what", "fix"),
    [
        ("characters", 0, 4, "entity (0, 4, 'X') ends beyond the text of 3 characters", "UTF-16.*offsets=utf-16"),
        ("characters", 4, 5, "entity (4, 5, 'X') ends beyond the text of 3 characters", "offsets=utf-16"),
        ("utf-16", 0, 6, "entity (0, 6, 'X') ends beyond the text of 5 UTF-16 units", "offsets=characters"),
        ("utf-16", 1, 2, "entity (1, 2, 'X') begins or ends inside a surrogate pair", "offsets=characters"),
        ("utf-16", 0, 4, "entity (0, 4, 'X') begins or ends inside a surrogate pair", "offsets=characters"),
        ("utf-16", -1, 2, "entity (-1, 2, 'X') holds no text", "count UTF-16 units from 0"),
        ("characters", 2, 2, "entity (2, 2, 'X') holds no text", "count characters from 0, and give a start"),
        ("characters", 2, 1, "entity (2, 1, 'X') holds no text", "the end, which is exclusive"),
    ],
)  # fmt: skip
def test_place_that_is_none(unit: str, start: int, end: int, what: str, fix: str) -> None:
    """😀 and 𠮷 are two units each."""
    offsets = Offsets("😀中𠮷", unit)
    assert offsets.mention(start, end) is None
    with pytest.raises(FormatError, match=fix) as raised:
        offsets.span(RECORD, start, end, "X")
    assert (raised.value.path, raised.value.line, raised.value.what) == (Path("x.jsonl"), 3, what)
