"""Compose the sample NER corpus from the word lists and sentence templates in a folder.

The folder's ``*.txt`` files hold ``[SECTION]`` headers, each followed by one alternative a line
(a line given twice is drawn twice as often; ``#`` starts a comment line). In a line:

``{SLOT}``      a random line of section SLOT; one text if SLOT starts with ``PER.``, ``LOC.`` or ``ORG.``,
                which is then an entity of that type whatever is nested in it
``{SLOT#1}``    the same, but keeping its value within the sentence
``{LOC=中}``    an entity written out
``{3..9}``      a number in that range
``(a|b|)``      one of the choices

ASCII letters and digits come out full-width. Only ``Random.random`` is drawn from, the one method whose
sequence Python guarantees, so that a seed gives the same bytes everywhere.
"""

import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Annotated, TypeVar

import typer

T = TypeVar("T")
Piece = tuple[str, str]  # text, label ("" outside entities)

ENTITY_TYPES = ("PER", "LOC", "ORG")
SIZES = {"train": 600, "dev": 120, "test": 120}
LONG_SPLITS = ("train", "test")  # each gets one sentence of at least LONG_CHARS
LONG_CHARS = 820
PLAIN_SHARE = 0.27  # sentences without a name
HELD_TEMPLATES = {"dev": 0.10, "test": 0.15}  # templates that only this split uses
RESERVED_SHARE = 0.30  # names that the training split never uses
RESERVED_DRAWS = 0.50  # how often dev and test draw one of those
REPEAT_DRAWS = 0.20  # how often training draws a name once more
MAX_TRIES = 60

WIDEN = {code: code + 0xFEE0 for code in range(0x21, 0x7F) if chr(code).isalnum()}
HEADER = re.compile(r"\[([\w.]+)( shared)?\]")
CHOICE = re.compile(r"\(([^()]*)\)")
SLOT = re.compile(r"\{([^{}]+)\}")
RANGE = re.compile(r"(\d+)\.\.(\d+)")


@dataclass(frozen=True)
class Sentence:
    """A sentence as pieces of text, each inside one entity or outside all."""

    pieces: tuple[Piece, ...]

    @property
    def text(self) -> str:
        return "".join(text for text, _ in self.pieces)

    @property
    def entities(self) -> list[Piece]:
        return [piece for piece in self.pieces if piece[1]]

    def lines(self) -> Iterator[str]:
        """One ``char tag`` line per character."""
        for text, label in self.pieces:
            for i, char in enumerate(text):
                yield f"{char} {'I' if i else 'B'}-{label}" if label else f"{char} O"


@dataclass
class Lexicon:
    """Sections of alternatives; names of ``shared`` sections are not reserved for evaluation."""

    sections: dict[str, list[str]] = field(default_factory=dict)
    shared: set[str] = field(default_factory=set)

    @classmethod
    def read(cls, folder: Path) -> "Lexicon":
        lexicon = cls()
        for path in sorted(folder.glob("*.txt")):
            current: list[str] | None = None
            for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
                header = HEADER.fullmatch(line)
                if header:
                    if header[1] in lexicon.sections:
                        raise ValueError(f"{path.name}:{number}: second section [{header[1]}]")
                    current = lexicon.sections[header[1]] = []
                    if header[2]:
                        lexicon.shared.add(header[1])
                elif line.strip() and not line.startswith("#"):
                    if current is None:
                        raise ValueError(f"{path.name}:{number}: line before the first section")
                    current.append(line.strip())
        if not lexicon.sections:
            raise ValueError(f"no sections in {folder}/*.txt")
        return lexicon

    def group(self, prefix: str) -> list[str]:
        """The lines of all sections whose names start with ``prefix``."""
        return [line for name, lines in self.sections.items() if name.startswith(prefix) for line in lines]


def is_reserved(surface: str) -> bool:
    """Whether a name is kept for dev and test; depends on nothing but the name."""
    return zlib.crc32(surface.encode("utf-8")) % 1000 < RESERVED_SHARE * 1000


class Composer:
    """Expands templates; ``training`` decides which names it may draw."""

    def __init__(self, lexicon: Lexicon, rng: Random) -> None:
        self.lexicon = lexicon
        self.rng = rng
        self.training = True
        self.known: dict[str, list[str]] = {}  # slot -> names drawn for training, with repeats
        self.used: set[str] = set()  # names in the sentence at hand
        self.kept: dict[str, str] = {}  # values of {SLOT#n} in the sentence at hand

    def pick(self, items: Sequence[T]) -> T:
        return items[int(self.rng.random() * len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        return [item for _, item in sorted(((self.rng.random(), item) for item in items), key=lambda p: p[0])]

    def rounds(self, items: Sequence[T]) -> Iterator[T]:
        """The items again and again, each round in a new order."""
        while True:
            yield from self.shuffled(items)

    def start(self) -> None:
        """Begin a sentence: forget which names the last one used."""
        self.used.clear()
        self.kept.clear()

    def sentence(self, template: str) -> Sentence:
        self.start()
        return Sentence(self.pieces(template))

    def pieces(self, template: str) -> tuple[Piece, ...]:
        return tuple((text.translate(WIDEN), label) for text, label in self.expand(template))

    def expand(self, template: str) -> Iterator[Piece]:
        while CHOICE.search(template):
            template = CHOICE.sub(lambda match: self.pick(match[1].split("|")), template)
        for i, part in enumerate(SLOT.split(template)):
            if i % 2:
                yield from self.fill(part)
            elif part:
                yield part, ""

    def fill(self, slot: str) -> Iterator[Piece]:
        bounds = RANGE.fullmatch(slot)
        if bounds:
            low, high = int(bounds[1]), int(bounds[2])
            yield str(low + int(self.rng.random() * (high - low + 1))), ""
        elif "=" in slot:
            label, surface = slot.split("=")
            self.used.add(surface)
            yield surface, label
        elif slot.partition(".")[0] in ENTITY_TYPES:
            surface = self.kept.get(slot) or self.draw_name(slot.partition("#")[0])
            self.used.add(surface)
            if "#" in slot:
                self.kept[slot] = surface
            yield surface, slot.partition(".")[0]
        else:
            yield from self.expand(self.pick(self.lexicon.sections[slot]))

    def draw_name(self, slot: str) -> str:
        """A name that the sentence does not hold yet, reserved or not as the split demands."""
        known = self.known.setdefault(slot, [])
        fresh = self.rng.random() >= (REPEAT_DRAWS if self.training else 1 - RESERVED_DRAWS)
        shared = slot in self.lexicon.shared
        candidates = [] if fresh or shared else [name for name in known if name not in self.used]
        if candidates:
            surface = self.pick(candidates)
        else:
            for _ in range(MAX_TRIES):
                surface = "".join(text for text, _ in self.expand(self.pick(self.lexicon.sections[slot])))
                wanted = shared or is_reserved(surface) == (fresh and not self.training)
                if wanted and surface not in self.used:
                    break
        if self.training:
            known.append(surface)
        return surface


def long_sentence(composer: Composer) -> Sentence:
    """A report of many clauses, at least ``LONG_CHARS`` long."""
    lexicon = composer.lexicon
    composer.start()
    pieces = composer.pieces(composer.pick(lexicon.group("report.open")))
    ending = composer.pieces(composer.pick(lexicon.group("report.close")))
    for i, clause in enumerate(composer.shuffled(lexicon.group("report.clause"))):
        pieces += composer.pieces(("；" if i else "") + clause)
        if sum(len(text) for text, _ in pieces + ending) >= LONG_CHARS:
            return Sentence(pieces + ending)
    raise ValueError(f"too few clauses for {LONG_CHARS} characters")


def split_templates(composer: Composer, templates: list[str]) -> dict[str, list[str]]:
    """The templates of each split: the common ones and, in dev and test, some of their own."""
    rest = composer.shuffled(templates)
    held: dict[str, list[str]] = {}
    for split, share in HELD_TEMPLATES.items():
        count = round(share * len(templates))
        held[split], rest = rest[:count], rest[count:]
    return {split: rest + held.get(split, []) for split in SIZES}


def compose(lexicon: Lexicon, seed: int) -> dict[str, list[Sentence]]:
    """All splits; no text occurs twice in them."""
    composer = Composer(lexicon, Random(seed))
    named = split_templates(composer, lexicon.group("template."))
    plain = split_templates(composer, lexicon.group("plain."))
    texts: set[str] = set()
    corpus: dict[str, list[Sentence]] = {}
    for split, size in SIZES.items():
        composer.training = split == "train"
        sentences = [long_sentence(composer)] if split in LONG_SPLITS else []
        texts.update(sentence.text for sentence in sentences)
        plain_end = len(sentences) + round(PLAIN_SHARE * size)
        for templates, end in ((plain[split], plain_end), (named[split], size)):
            source = composer.rounds(templates)
            for _ in range(MAX_TRIES * size):
                if len(sentences) == end:
                    break
                sentence = composer.sentence(next(source))
                if sentence.text not in texts:
                    texts.add(sentence.text)
                    sentences.append(sentence)
            else:
                raise ValueError(f"too few templates for {size} different sentences in {split}")
        corpus[split] = composer.shuffled(sentences)
    return corpus


def unseen_shares(corpus: dict[str, list[Sentence]], split: str) -> dict[str, float]:
    """Per type, the share of a split's mentions that training does not have with that type."""
    known = {entity for sentence in corpus["train"] for entity in sentence.entities}
    mentions = [entity for sentence in corpus[split] for entity in sentence.entities]
    total = Counter(label for _, label in mentions)
    unseen = Counter(label for text, label in mentions if (text, label) not in known)
    return {label: unseen[label] / total[label] for label in ENTITY_TYPES}


def to_bio(sentences: list[Sentence]) -> str:
    """``char tag`` lines with an empty line after each sentence."""
    return "".join("\n".join(sentence.lines()) + "\n\n" for sentence in sentences)


def main(
    lexicon: Annotated[Path, typer.Argument(help="Folder of the word lists.", exists=True, file_okay=False)],
    output: Annotated[Path, typer.Argument(help="Folder for the .bio files.", file_okay=False)],
    seed: Annotated[int, typer.Option(help="Seed of the random choices.")] = 0,
) -> None:
    """Compose train.bio, dev.bio and test.bio from the lists in LEXICON."""
    corpus = compose(Lexicon.read(lexicon), seed)
    output.mkdir(parents=True, exist_ok=True)
    for split, sentences in corpus.items():
        (output / f"{split}.bio").write_bytes(to_bio(sentences).encode("utf-8"))
        entities = Counter(label for sentence in sentences for _, label in sentence.entities)
        lengths = [len(sentence.text) for sentence in sentences]
        plain = sum(not sentence.entities for sentence in sentences)
        counts = ", ".join(f"{label} {entities[label]}" for label in ENTITY_TYPES)
        typer.echo(f"{split}: {len(sentences)} sentences ({plain} without a name), {sum(lengths)} characters")
        typer.echo(f"  {counts}; longest sentence {max(lengths)} characters")
        if split != "train":
            shares = ", ".join(f"{k} {v:.0%}" for k, v in unseen_shares(corpus, split).items())
            typer.echo(f"  mentions not in train: {shares}")


if __name__ == "__main__":
    typer.run(main)
