"""The scheme and the spelling of tags -> settings of a reader."""

from typing import Any, Dict, List, Optional, Sequence, Tuple

from spacy_crf_ner.formats.schemes import SCHEMES, Scheme
from spacy_crf_ner.formats.spelling import SPELLINGS, STANDARD
from spacy_crf_ner.labels import OUTSIDE


def guess_tags(sentences: Sequence[Sequence[str]]) -> Optional[Dict[str, Any]]:
    """Tell how tags are written.

    sentences (Sequence[Sequence[str]]): The tags of some sentences.
    RETURNS (Optional[Dict[str, Any]]): The settings `scheme` and `spelling` that break least, the first of those
        that do so equally; what a reader does by itself is left away. None where most are no tags.
    """
    n_tags = sum(map(len, sentences))
    found: List[Tuple[Tuple[int, int], str, str]] = []
    for spelling in SPELLINGS.values():
        spelled = [[spelling.standard(tag) for tag in sentence] for sentence in sentences]
        found.extend((_faults(scheme, spelled), spelling.name, scheme.name) for scheme in SCHEMES.values())
    (n_unknown, _), spelling_name, scheme_name = min(found, key=lambda each: each[0])
    if 2 * n_unknown >= n_tags:
        return None
    settings: Dict[str, Any] = {} if scheme_name == "bio" else {"scheme": scheme_name}
    return settings if spelling_name == STANDARD else {**settings, "spelling": spelling_name}


def _faults(scheme: Scheme, sentences: Sequence[Sequence[str]]) -> Tuple[int, int]:
    """How many tags are none of the scheme, and how often the others break it."""
    n_unknown = n_broken = 0

    def complain(i: int, what: str, mend: str, kind: str) -> None:
        nonlocal n_broken
        n_broken += 1

    for sentence in sentences:
        known = [tag if scheme.has(tag) else OUTSIDE for tag in sentence]
        n_unknown += sum(tag != mine for tag, mine in zip(sentence, known))
        scheme.read(known, complain)
    return n_unknown, n_broken
