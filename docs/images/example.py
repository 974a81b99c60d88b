"""Draw the README's example as a picture: what a pipeline finds in its sentence, as displaCy shows entities.

python docs/images/example.py training/sample/model-best docs/images/example.svg
"""

import argparse
from html import escape
from pathlib import Path
from typing import List, Tuple

import spacy
from spacy.displacy.render import DEFAULT_LABEL_COLORS
from spacy.tokens import Doc

TEXT = "记者从教育部获悉，北京大学校长王志远昨天访问了法国。"
COLOURS = {**DEFAULT_LABEL_COLORS, "PER": DEFAULT_LABEL_COLORS["PERSON"]}
SIZE = 20
"""Of a Chinese character, in pixels: each is as wide as it is high."""
LABEL_SIZE = 11
PADDING = 6
MARGIN = 14
HEIGHT = 58
FONT = "'Noto Sans CJK SC', 'Noto Sans SC', 'PingFang SC', 'Microsoft YaHei', sans-serif"


def parts(doc: Doc) -> List[Tuple[str, str]]:
    """The text in pieces, each with its label, "" where there is none."""
    found, end = [], 0
    for ent in doc.ents:
        found += [(doc[end : ent.start].text, ""), (ent.text, ent.label_)]
        end = ent.end
    return [(text, label) for text, label in [*found, (doc[end:].text, "")] if text]


def draw(pieces: List[Tuple[str, str]]) -> str:
    """The picture.

    pieces (List[Tuple[str, str]]): Pieces of text with their labels.
    RETURNS (str): An SVG file.
    """
    x, middle, body = float(MARGIN), HEIGHT / 2, []
    for text, label in pieces:
        width = SIZE * len(text)
        if label:
            label_width = LABEL_SIZE * 0.72 * len(label)
            whole = width + label_width + 3 * PADDING
            box = f'x="{x:g}" y="{middle - 17:g}" width="{whole:g}" height="34" rx="6"'
            body.append(f'<rect {box} fill="{COLOURS[label]}"/>')
            body.append(_text(x + PADDING, middle + 7, SIZE, text, width))
            place = x + 2 * PADDING + width
            body.append(_text(place, middle + 4, LABEL_SIZE, label, label_width, ' font-weight="bold"'))
            x += whole + 4
        else:
            body.append(_text(x, middle + 7, SIZE, text, width))
            x += width + 4
    total = x - 4 + MARGIN
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{total:g}" height="{HEIGHT}" '
        f'viewBox="0 0 {total:g} {HEIGHT}" font-family="{FONT}" fill="#16181d" role="img">',
        f"<title>{escape(''.join(f'{text}/{label} ' if label else text for text, label in pieces))}</title>",
        f'<rect x="0.5" y="0.5" width="{total - 1:g}" height="{HEIGHT - 1}" rx="8" '
        'fill="#ffffff" stroke="#d0d5dd"/>',
        *body,
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _text(x: float, y: float, size: int, text: str, width: float, more: str = "") -> str:
    # textLength: the same places, whatever font the reader has.
    return f'<text x="{x:g}" y="{y:g}" font-size="{size}" textLength="{width:g}"{more}>{escape(text)}</text>'


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the README's example")
    parser.add_argument("model", help="pipeline: package name or directory")
    parser.add_argument("output", type=Path, help="SVG file")
    args = parser.parse_args()
    args.output.write_text(draw(parts(spacy.load(args.model)(TEXT))), encoding="utf8")


if __name__ == "__main__":
    main()
