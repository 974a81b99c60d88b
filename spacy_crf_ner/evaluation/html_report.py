"""A pipeline's predictions drawn by displaCy, what it missed and what it invented marked."""

from html import escape
from pathlib import Path
from typing import Dict, Iterable, List, NamedTuple, Optional, Sequence, Tuple
from zlib import crc32

from spacy import displacy
from spacy.displacy.render import EntityRenderer
from spacy.tokens import Doc
from spacy.training import Example

from spacy_crf_ner.evaluation.comparison import Comparison, Judged, Verdict, compare
from spacy_crf_ner.evaluation.scores import Scores, score
from spacy_crf_ner.templates import environment

N_HUES = 24

TEMPLATES = Path(__file__).parent / "templates"

ENTITY = (
    '<mark class="entity {verdict}" title="{label}: {verdict}" style="background: {bg}">'
    '{text}<span class="type">{label}</span><span class="verdict">{mark}</span></mark>'
)
"""displaCy's template of an entity. `verdict` and `mark` are parameters of ours, given with each entity."""

MARKS = {
    Verdict.CORRECT: "",
    Verdict.MISSED: "missed",
    Verdict.SPURIOUS: "spurious",
    Verdict.UNALIGNED: "not on token borders",
    Verdict.IGNORED: "not scored",
}


LEGEND = ((Verdict.MISSED, "gold, and not predicted"), (Verdict.SPURIOUS, "predicted, and not gold"))


class Article(NamedTuple):
    """What the page shows of one doc.

    number (int): Its place among the examples, from 1.
    is_correct (bool): Whether the predictions are right.
    summary (str): How many mistakes of which kind there are.
    rows (Dict[str, str]): The drawn doc as HTML, by what its entities are: "gold", "predicted".
    """

    number: int
    is_correct: bool
    summary: str
    rows: Dict[str, str]


class LabelRow(NamedTuple):
    """A row of the table of scores: a label, and its figures as the page shows them."""

    label: str
    figures: Tuple[str, ...]


class Page(NamedTuple):
    """A page and the number of docs it shows."""

    html: str
    n_shown: int


def render_page(
    examples: Sequence[Example], *, title: str, lang: str, limit: int = 100, errors_only: bool = False
) -> Page:
    """Render examples as one self-contained HTML page.

    A doc without mistakes is one row; one with mistakes is two, its gold entities above its predicted ones.
    The figures at the top are those of all examples.

    examples (Sequence[Example]): Gold docs and predictions.
    title (str): The page's title.
    lang (str): The language of the texts, as an HTML language tag: browsers choose Han glyphs by it.
    limit (int): Docs to show at most.
    errors_only (bool): Pass over docs without mistakes.
    RETURNS (Page): The page and the number of docs it shows.
    RAISES (ValueError): A prediction's text differs from the gold text.
    """
    scores = score(list(examples))
    labels = {ent.label_ for eg in examples for doc in (eg.reference, eg.predicted) for ent in doc.ents}
    colors = type_colors(labels)
    articles: List[Article] = []
    for number, example in enumerate(examples, start=1):
        if len(articles) == limit:
            break
        comparison = compare(example)
        if not (errors_only and comparison.is_correct):
            articles.append(_article(number, example, comparison, colors))
    shown = f"Showing {len(articles):,} of {len(examples):,} documents"
    template = environment(TEMPLATES, autoescape=True).get_template("report.html.jinja")
    html = template.render(
        lang=lang,
        dir=examples[0].reference.vocab.writing_system.get("direction", "ltr") if examples else "ltr",
        title=title,
        figures=_figures(scores),
        labels=_label_rows(scores),
        colors=colors,
        legend=[{"verdict": verdict, "meaning": meaning} for verdict, meaning in LEGEND],
        marks=MARKS,
        note=shown + (", only those with mistakes." if errors_only else "."),
        articles=articles,
    )
    return Page(html, len(articles))


def type_colors(types: Iterable[str]) -> Dict[str, str]:
    """Give each label a colour: displaCy's own or registered one if it has one, else one from its name.

    The same labels get the same colours on every page; labels that share a hue are moved apart.

    types (Iterable[str]): Labels, in any order and repeated at will.
    RETURNS (Dict[str, str]): CSS colours.
    """
    known = EntityRenderer().colors
    colors: Dict[str, str] = {}
    taken: Dict[int, str] = {}
    for label in sorted(set(types)):
        if label.upper() in known:
            colors[label] = known[label.upper()]
            continue
        hue = crc32(label.upper().encode("utf-8")) % N_HUES
        while hue in taken and len(taken) < N_HUES:
            hue = (hue + 7) % N_HUES
        taken[hue] = label
        colors[label] = f"hsl({hue * 360 // N_HUES}, 75%, 82%)"
    return colors


def _article(number: int, example: Example, comparison: Comparison, colors: Dict[str, str]) -> Article:
    """One doc: its predictions and, where they are not right, the gold entities above them."""
    predicted = _draw(example.predicted, comparison.predicted, colors)
    if comparison.is_correct:
        return Article(number, True, "", {"predicted": predicted})
    gold = _draw(example.reference, comparison.gold, colors)
    counts = ((comparison.count(verdict), mark) for verdict, mark in MARKS.items() if mark)
    summary = " · " + ", ".join(f"{count} {mark}" for count, mark in counts if count)
    return Article(number, False, summary, {"gold": gold, "predicted": predicted})


def _draw(doc: Doc, judged: Sequence[Judged], colors: Dict[str, str]) -> str:
    """Let displaCy draw a doc. It escapes the text but not the labels, so they are escaped here."""
    entities = [
        {
            "start": entity.start_char,
            "end": entity.end_char,
            "label": escape(entity.label_),
            "params": {"verdict": verdict.value, "mark": MARKS[verdict]},
        }
        for entity, verdict, _ in judged
    ]
    return displacy.render(
        {"text": doc.text, "ents": entities, "settings": displacy.get_doc_settings(doc)},
        style="ent",
        manual=True,
        jupyter=False,
        options={
            "template": ENTITY,
            "colors": {escape(label): color for label, color in colors.items()},
        },
    )


def _figures(scores: Scores) -> Dict[str, str]:
    counts = scores.counts
    return {
        "Precision": _percent(scores.spacy["ents_p"]),
        "Recall": _percent(scores.spacy["ents_r"]),
        "F": _percent(scores.spacy["ents_f"]),
        "Documents": f"{counts.docs:,}",
        "Tokens": f"{counts.tokens:,}",
        "Gold": f"{counts.gold:,}",
        "Predicted": f"{counts.predicted:,}",
        "Correct": f"{counts.correct:,}",
        "Missed": f"{counts.gold - counts.correct:,}",
        "Spurious": f"{counts.predicted - counts.correct:,}",
    }


def _label_rows(scores: Scores) -> List[LabelRow]:
    """The table of scores per label; empty without entities."""
    return [
        LabelRow(
            label,
            (
                f"{scores.seqeval[label]['support']:,}" if label in scores.seqeval else "0",
                *(_percent(prf[key]) for key in ("p", "r", "f")),
            ),
        )
        for label, prf in sorted((scores.spacy["ents_per_type"] or {}).items())
    ]


def _percent(value: Optional[float]) -> str:
    return "–" if value is None else f"{value * 100:.1f}"
