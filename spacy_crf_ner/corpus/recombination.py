"""`spacy-crf-ner.Recombine.v1`: further training examples from the entities and sentences of those before."""

import random
from collections import deque
from dataclasses import dataclass
from typing import Deque, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from spacy.language import Language
from spacy.tokens import Doc
from spacy.training import Example

from spacy_crf_ner.languages import SPACELESS

MOST_ENTITIES = 50_000
"""Different entities of a label that are remembered."""


@dataclass(frozen=True)
class _Segment:
    """Tokens of an entity, or of what is between two.

    words (Tuple[str, ...]): The tokens' texts.
    spaces (Tuple[bool, ...]): Whether a space follows each.
    label (str): The entity's label, "" for what is none.
    """

    words: Tuple[str, ...]
    spaces: Tuple[bool, ...]
    label: str = ""

    def followed_by(self, space: bool) -> "_Segment":
        """The same tokens, the last with or without a space after it."""
        return _Segment(self.words, (*self.spaces[:-1], space), self.label)


class _Memory:
    """What came before.

    n_recent (int): How many of the last examples are remembered whole.
    """

    def __init__(self, n_recent: int) -> None:
        self.entities: Dict[str, List[_Segment]] = {}
        """Different ones, by label."""
        self.recent: Deque[List[_Segment]] = deque(maxlen=n_recent)
        self._known: Set[_Segment] = set()

    def remember(self, segments: List[_Segment]) -> None:
        """Remember the entities of an example."""
        for segment in segments:
            entity = segment.followed_by(False)
            if not segment.label or entity in self._known:
                continue
            entities = self.entities.setdefault(segment.label, [])
            if len(entities) < MOST_ENTITIES:
                entities.append(entity)
            else:
                place = random.randrange(MOST_ENTITIES)
                self._known.remove(entities[place])
                entities[place] = entity
            self._known.add(entity)


class Recombine:
    """An augmenter of a corpus reader: each example as it is, and after some of them one more, made of what came
    before.

    Chance is Python's `random`, which `spacy train` seeds. Only examples whose entities are all annotated are
    used, and of the further ones only the entities are annotated.

    swap (float): After what share of the examples follows the same text with other entities of the same labels in
        the places of its own; as mention replacement in Dai and Adel (2020), "An analysis of simple data
        augmentation for named entity recognition", COLING, section 2.
    lists (float): After what share of the examples follows a list of entities of one label: on its own, or in the
        place of an entity of the example.
    joined (float): After what share of the examples follows a text of several examples, this one the last.
    list_labels (Optional[List[str]]): Labels of which there are lists; null: all.
    longest_list (int): The most entities of a list. Every number from two on is as likely.
    separators (Optional[List[str]]): What may be between the entities of a list, one for the whole list; null:
        nothing and "、" in a language that is written without spaces, else ", ".
    most_joined (int): The most examples of a joined text.
    """

    def __init__(
        self,
        swap: float = 0.0,
        lists: float = 0.0,
        joined: float = 0.0,
        list_labels: Optional[List[str]] = None,
        longest_list: int = 40,
        separators: Optional[List[str]] = None,
        most_joined: int = 4,
    ) -> None:
        for name, share in (("swap", swap), ("lists", lists), ("joined", joined)):
            if not 0 <= share <= 1:
                raise ValueError(f"{name} must be between 0 and 1, got {share}; give the share of the examples")
        for name, most in (("longest_list", longest_list), ("most_joined", most_joined)):
            if most < 2:
                raise ValueError(f"{name} must be 2 or more, got {most}")
        self.swap = swap
        self.lists = lists
        self.joined = joined
        self.list_labels = None if list_labels is None else frozenset(list_labels)
        self.longest_list = longest_list
        self.separators = separators
        # Docs whose spaces are unknown are not mixed with others.
        self._memories = {unknown_spaces: _Memory(most_joined - 1) for unknown_spaces in (False, True)}

    def __call__(self, nlp: Language, example: Example) -> Iterator[Example]:
        """Augment.

        nlp (Language): The pipeline; its tokenizer makes the tokens of the predicted docs.
        example (Example): An example.
        YIELDS (Example): The example, and those that follow it.
        """
        yield example
        doc = example.reference
        if any(token.ent_iob == 0 for token in doc) or not len(doc):
            return
        segments, memory = _segments(doc), self._memories[doc.has_unknown_spaces]
        memory.remember(segments)
        for share, make in ((self.swap, self._swapped), (self.lists, self._list), (self.joined, self._joined)):
            if random.random() < share:
                made = make(segments, memory, nlp.lang not in SPACELESS)
                if made:
                    yield _example(nlp, made, doc.has_unknown_spaces)
        memory.recent.append(segments)

    def _swapped(self, segments: List[_Segment], memory: "_Memory", spaced: bool) -> List[_Segment]:
        if not any(segment.label for segment in segments):
            return []
        return [
            random.choice(memory.entities[segment.label]).followed_by(segment.spaces[-1])
            if segment.label
            else segment
            for segment in segments
        ]

    def _list(self, segments: List[_Segment], memory: "_Memory", spaced: bool) -> List[_Segment]:
        labels = [
            label
            for label, entities in sorted(memory.entities.items())
            if len(entities) > 1 and (self.list_labels is None or label in self.list_labels)
        ]
        if not labels:
            return []
        label = random.choice(labels)
        entities = memory.entities[label]
        separators = self.separators or ([", "] if spaced else ["", "、"])
        chosen = random.sample(entities, random.randint(2, min(self.longest_list, len(entities))))
        made = _separated(chosen, random.choice(separators))
        places = [i for i, segment in enumerate(segments) if segment.label == label]
        if not places or random.random() < 0.5:
            return made
        place = random.choice(places)
        last = made[-1].followed_by(segments[place].spaces[-1])
        return [*segments[:place], *made[:-1], last, *segments[place + 1 :]]

    def _joined(self, segments: List[_Segment], memory: "_Memory", spaced: bool) -> List[_Segment]:
        if not memory.recent:
            return []
        before = list(memory.recent)[-random.randint(1, len(memory.recent)) :]
        made: List[_Segment] = []
        for some in before:
            made += [*some[:-1], some[-1].followed_by(spaced)]
        return made + segments


def _segments(doc: Doc) -> List[_Segment]:
    segments, end = [], 0
    for start, stop, label in [*((ent.start, ent.end, ent.label_) for ent in doc.ents), (len(doc), len(doc), "")]:
        for first, last, name in ((end, start, ""), (start, stop, label)):
            if first < last:
                tokens = doc[first:last]
                segments.append(
                    _Segment(tuple(t.text for t in tokens), tuple(bool(t.whitespace_) for t in tokens), name)
                )
        end = stop
    return segments


def _separated(entities: Sequence[_Segment], separator: str) -> List[_Segment]:
    """A list of entities, with a separator between each two."""
    mark = separator.strip()
    made: List[_Segment] = []
    for entity in entities:
        if made and mark:
            made[-1] = made[-1].followed_by(separator[0].isspace())
            made.append(_Segment((mark,), (separator[-1].isspace(),)))
        elif made:
            made[-1] = made[-1].followed_by(bool(separator))
        made.append(entity)
    return made


def _example(nlp: Language, segments: Sequence[_Segment], unknown_spaces: bool) -> Example:
    words = [word for segment in segments for word in segment.words]
    tags = [
        f"{'I' if i else 'B'}-{segment.label}" if segment.label else "O"
        for segment in segments
        for i in range(len(segment.words))
    ]
    if unknown_spaces:
        return Example(Doc(nlp.vocab, words=words), Doc(nlp.vocab, words=words, ents=tags))
    reference = Doc(
        nlp.vocab, words=words, spaces=[space for segment in segments for space in segment.spaces], ents=tags
    )
    return Example(nlp.make_doc(reference.text), reference)
