"""Sentences as BIO files hold them, good and bad."""

from pathlib import Path
from typing import List, Sequence, Tuple

from hypothesis import strategies as st

Column = Tuple[str, str]

BAD_LINES = [
    (b"c", "has no tag"),
    ("　".encode(), "has no tag"),
    ("c\u00a0O".encode(), "has no tag"),
    (b" O", "has no token"),
    (b"\tO", "has no token"),
    (b"c O O", "stray column"),
    (b"c\tO\tO", "stray column"),
    (b"c\tNN O", "stray column"),
    (b"c NN\tO", "stray column"),
    (b"c O ", "stray column"),
    (b"c\tO\t", "stray column"),
    (b"c  O", "stray column"),
    (b"  ", "a line of blanks"),
    (b" \t", "a line of blanks"),
    (b"c X-LOC", "is not a tag of bio"),
    (b"c LOC", "is not a tag of bio"),
    (b"c B", "has no label"),
    (b"c B-", "is not a tag of bio"),
    (b"c o", "is not a tag of bio"),
    (b"c -", "is not a tag of bio"),
    ("c B-LOC　".encode(), "is not a tag of bio"),
    (b"c U-LOC", "unknown prefix U-"),
    (b"c L-LOC", "unknown prefix L-"),
    (b"\xff O", "not UTF-8"),
    (b"c \xe4\xb8", "not UTF-8"),
    ("中 O".encode("utf-16"), "not UTF-8"),
]
"""Lines that cannot be corrected, and what is said of them."""

REPAIRABLE_LINES = [(b"c ", "empty tag"), (b"c\t", "empty tag"), (b"c I-LOC", "continues no LOC entity")]

# Every kind that a tokenizer may join or drop: U+3000, a space, combining marks, emoji and their joiner.
CHARACTERS = "中国京　 a1é\u0301\u200d\u200b\ufeff👨👩🇨🇳。\u00a0\u0085\x1c"


@st.composite
def sentences(draw: st.DrawFn, longest_token: int = 3) -> List[Column]:
    """(token, tag) columns of one legal sentence; entities may touch."""
    word = st.text(CHARACTERS, min_size=1, max_size=longest_token).filter(lambda t: t == " " or " " not in t)
    columns: List[Column] = []
    for label, tokens in draw(
        st.lists(
            st.tuples(st.sampled_from(["", "LOC", "PER"]), st.lists(word, min_size=1, max_size=4)),
            min_size=1,
            max_size=6,
        )
    ):
        tags = [f"B-{label}"] + [f"I-{label}"] * (len(tokens) - 1) if label else ["O"] * len(tokens)
        columns.extend(zip(tokens, tags))
    # A byte order mark at the very start of a file is not part of its text.
    return [("中", "O"), *columns]


def write_bio(
    path: Path, written: Sequence[Sequence[Column]], *, separator: str = " ", newline: str = "\n"
) -> None:
    """Write sentences as BIO, an empty line after each."""
    lines = ("".join(f"{token}{separator}{tag}{newline}" for token, tag in columns) for columns in written)
    path.write_bytes("".join(line + newline for line in lines).encode("utf8"))
