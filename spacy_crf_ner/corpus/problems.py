"""What in a corpus will hurt."""

from typing import Iterable, Iterator, List, Mapping, Optional, Sequence

from spacy.cli.debug_data import BLANK_MODEL_MIN_THRESHOLD, BLANK_MODEL_THRESHOLD, NEW_LABEL_THRESHOLD

from spacy_crf_ner.corpus.ambiguity import Ambiguity
from spacy_crf_ner.corpus.duplicates import TextIndex, prefixes
from spacy_crf_ner.corpus.finding import KINDS, Finding
from spacy_crf_ner.corpus.stats import MAX_CASES, Case, SplitStats
from spacy_crf_ner.corpus.vocabulary import Coverage

UNKNOWN_SHARE = 0.001
"""Fewer unknown characters or tokens than this share are not worth a finding: no vocabulary has all emoji."""


def find_problems(
    splits: Sequence[SplitStats],
    texts: TextIndex,
    ambiguity: Optional[Ambiguity],
    coverages: Sequence[Coverage],
    window: int,
) -> List[Finding]:
    """Judge a corpus.

    splits (Sequence[SplitStats]): The training data first, then dev and test, as far as there are.
    texts (TextIndex): Their texts.
    ambiguity (Optional[Ambiguity]): Of the training data.
    coverages (Sequence[Coverage]): What the vocabularies do not know.
    window (int): How much a model sees at a time.
    RETURNS (List[Finding]): What was found, the worst first.
    """
    findings = [
        *_whole_splits(splits),
        *_labels(splits),
        *_texts([split.name for split in splits], texts),
        *(finding for split in splits for finding in _split(split, window)),
        *_coverages(coverages),
        *(_ambiguity(splits[0].name, ambiguity) if ambiguity else ()),
    ]
    order = list(KINDS)
    return sorted(findings, key=lambda finding: order.index(finding.code))


def _whole_splits(splits: Sequence[SplitStats]) -> Iterator[Finding]:
    train = splits[0]
    for split in splits:
        if not split.entities:
            yield Finding("no_entities", split.name, split.docs, f"{split.name} has no entities")
    if train.docs < BLANK_MODEL_THRESHOLD:
        few, code = (
            (BLANK_MODEL_MIN_THRESHOLD, "very_few_docs")
            if train.docs < BLANK_MODEL_MIN_THRESHOLD
            else (BLANK_MODEL_THRESHOLD, "few_docs")
        )
        message = f"fewer than {few:,} docs in {train.name} ({train.docs:,})"
        yield Finding(code, train.name, train.docs, message)
    if len(splits) == 1:
        yield Finding("no_dev", None, 1, f"no data but {train.name}")


def _labels(splits: Sequence[SplitStats]) -> Iterator[Finding]:
    train, *held_out = splits
    for split in held_out:
        if not train.entities or not split.entities:
            continue
        new = {label: n for label, n in sorted(split.types.items()) if label not in train.types}
        if new:
            message = f"{split.name} has labels that {train.name} lacks: {listed(new)}"
            yield Finding("label_not_in_train", split.name, sum(new.values()), message, new)
        unmeasured = {label: n for label, n in sorted(train.types.items()) if label not in split.types}
        if unmeasured:
            message = f"{split.name} lacks labels that {train.name} has: {listed(unmeasured)}"
            yield Finding("label_not_in_dev", split.name, sum(unmeasured.values()), message, unmeasured)
    rare = {label: n for label, n in sorted(train.types.items()) if n < NEW_LABEL_THRESHOLD}
    if rare:
        message = f"fewer than {NEW_LABEL_THRESHOLD} examples in {train.name} of {listed(rare)}"
        yield Finding("few_examples", train.name, sum(rare.values()), message, rare)
    everywhere = {label: n for label, n in sorted(train.docs_with_type.items()) if n == train.docs}
    if everywhere:
        message = f"no doc of {train.name} without {listed(everywhere)}"
        yield Finding("no_negative_examples", train.name, len(everywhere), message, everywhere)


def _texts(names: Sequence[str], texts: TextIndex) -> Iterator[Finding]:
    for i, name in enumerate(names):
        for other in names[:i]:
            if tally := texts.leaks.get((name, other)):
                message = f"{amount(tally.count, 'doc')} of {name} whose text is in {other} too"
                yield Finding.of("leaked_docs", name, tally, message)
        if tally := texts.duplicates.get(name):
            message = f"{amount(tally.count, 'doc')} of {name} whose text an earlier doc of {name} has"
            yield Finding.of("duplicate_docs", name, tally, message)
        tally = texts.contradictions([name])
        if tally.count:
            message = f"{amount(tally.count, 'text')} with more than one tagging within {name}"
            yield Finding.of("contradictions", name, tally, message)
    for *earlier, name in prefixes(names)[1:]:
        tally = texts.contradicted(name, earlier)
        if tally.count:
            together = texts.contradictions([*earlier, name]).count
            message = (
                f"{amount(tally.count, 'text')} of {name} tagged otherwise in {' or '.join(earlier)} "
                f"({' + '.join([*earlier, name])}, taken together: {together:,} with more than one tagging)"
            )
            yield Finding.of("contradictions_across", name, tally, message)


def _split(split: SplitStats, window: int) -> Iterator[Finding]:
    """The findings that concern only one split."""
    name = split.name
    tallied: Mapping[str, str] = {
        "empty_label": f"{{}} of {name} with an entity that has no label",
        "whitespace_entities": f"{{}} of {name} of nothing but white space",
        "changed_texts": f"{{}} of {name} whose text the tokenizer changes",
        "misaligned_entities": f"{{}} of {name} with an edge inside a token",
        "whitespace_edges": f"{{}} of {name} with white space at an edge",
        "punctuation_edges": f"{{}} of {name} with punctuation at an edge",
        "crossed_sentences": f"{{}} of {name} across a sentence's end",
    }
    units = {"empty_label": "token", "changed_texts": "doc"}
    for code, message in tallied.items():
        if tally := split.tallies.get(code):
            by_type = f": {listed(dict(tally.types.most_common()))}" if tally.types else ""
            text = message.format(amount(tally.count, units.get(code, "entity"))) + by_type
            yield Finding.of(code, name, tally, text)
    counted = {
        "misaligned_tokens": (split.misaligned_tokens, "token", f"of {name} that the tokenizer cuts otherwise"),
        "missing_annotation": (split.missing_tokens, "token", f"of {name} without annotation (not even O)"),
        "overlapping_entities": (
            split.overlapping,
            "entity",
            f"of {name} left out, for they overlap a longer one",
        ),
        "duplicate_entities": (split.duplicates, "entity", f"of {name} given twice"),
        "empty_docs": (split.empty_docs, "doc", f"of {name} without text"),
    }
    for code, (n, unit, what) in counted.items():
        if n:
            yield Finding(code, name, n, f"{amount(n, unit)} {what}")
    if notes := dict(sorted(split.notes.items())):
        yield Finding("reader_notes", name, sum(notes.values()), f"notes on reading {name}: {listed(notes)}")
    lengths = split.measure(window)[-1]
    if lengths.longer:
        message = (
            f"{amount(lengths.longer, 'doc')} of {name} ({percent(lengths.longer / split.docs)}) "
            f"longer than the window of {window:,} {lengths.unit}"
        )
        yield Finding("long_docs", name, lengths.longer, message)


def _coverages(coverages: Iterable[Coverage]) -> Iterator[Finding]:
    for coverage in coverages:
        if coverage.share < UNKNOWN_SHARE:
            continue
        n = sum(coverage.unknown.values())
        message = (
            f"{n:,} {coverage.unit} of {coverage.split} ({percent(coverage.share)}; {len(coverage.unknown):,} "
            f"different) unknown to the {coverage.kind}; after width folding {percent(coverage.share_folded)}"
        )
        cases = [Case("", unit, note=f"{n:,}") for unit, n in coverage.unknown.most_common(MAX_CASES)]
        yield Finding(f"unknown_to_{coverage.kind}", coverage.split, n, message, cases=cases)


def _ambiguity(name: str, ambiguity: Ambiguity) -> Iterator[Finding]:
    if ambiguity.ambiguous:
        message = (
            f"{ambiguity.ambiguous:,} of {amount(ambiguity.forms, 'different mention')} in {name} ambiguous: "
            f"{ambiguity.several_types:,} of several labels, {ambiguity.also_outside:,} also no entity"
        )
        cases = [
            Case(origin, form.text, label, "" if label else "no entity")
            for form in ambiguity.top[:MAX_CASES]
            for label, origin in sorted(form.origins.items(), reverse=True)
        ]
        yield Finding("ambiguous_forms", name, ambiguity.ambiguous, message, cases=cases[:MAX_CASES])


def amount(n: int, unit: str) -> str:
    """A number and its unit, in the plural where it needs one: "1 doc", "2,000 entities"."""
    plural = f"{unit[:-1]}ies" if unit.endswith("y") else f"{unit}s"
    return f"{n:,} {unit if n == 1 else plural}"


def percent(share: float) -> str:
    """A share, in percent."""
    return f"{100 * share:.1f} %" if share == 0 or share >= 0.001 else "< 0.1 %"


def listed(counts: Mapping[str, int]) -> str:
    """Names with their counts."""
    return ", ".join(f"{name} ({n:,})" for name, n in counts.items())
