"""When a step has all its gradients, for each way in which updates are made."""

from typing import List

from spacy_crf_ner.training.collection import Collection


def steps_of(collection: "Collection[str, int]", keys: str) -> List[str]:
    """The parameters of the steps that are made while parameters come in, without the last."""
    made = []
    for i, key in enumerate(keys):
        if collection.is_repeated(key):
            made.append("".join(collection.take().values))
        if collection.add(key, i):
            made.append("".join(collection.take().values))
    return made


def test_a_parameter_that_comes_again_ends_the_first_step_and_the_last_one_that_is_missing_the_next() -> None:
    assert steps_of(Collection(), "abcabcabc") == ["abc", "abc", "abc"]


def test_a_parameter_that_stays_away_is_not_waited_for_longer_than_one_step() -> None:
    assert steps_of(Collection(), "abcabcababab") == ["abc", "abc", "ab", "ab", "ab"]


def test_a_caller_makes_each_step() -> None:
    collection: Collection[str, int] = Collection()
    collection.by_caller()
    assert steps_of(collection, "abc") == []
    assert list(collection.take_all().values) == ["a", "b", "c"]
    assert collection.take_all().values == {}


def test_the_largest_number_of_updates_counts_for_the_step_that_it_was_announced_for() -> None:
    collection: Collection[str, int] = Collection()
    collection.announce(3)
    collection.add("a", 0)
    collection.announce(2)
    collection.add("b", 0)
    assert collection.take().n_updates == 3
    collection.add("a", 0)
    collection.announce(4)
    assert collection.take_all().n_updates == 4
    collection.add("a", 0)
    assert collection.take().n_updates == 1


def test_a_step_that_fails_leaves_the_next_ones_whole() -> None:
    collection: Collection[str, int] = Collection()
    assert steps_of(collection, "abcabc") == ["abc", "abc"]
    # Whoever took this step may have refused its gradients.
    assert steps_of(collection, "abcabc") == ["abc", "abc"]
