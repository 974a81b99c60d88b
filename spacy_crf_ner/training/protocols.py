"""What models, components and an optimizer say to each other beyond Thinc's calls.

Thinc hands an optimizer one parameter at a time and takes the gradient back. An optimizer with these methods is
told more; spaCy's and Thinc's own have none of them, `spacy-crf-ner.AdamW.v1` has all.

- A torch shim gives it gradients for good (`KeepsGradients`), so that none is copied.
- A component tells it how many updates a gradient sums up (`AveragesUpdates`). spaCy adds up the gradients of the
  batches between two steps (`[training] accumulate_gradient`). Each is that of a mean loss, so unless their number
  is divided out, it multiplies the gradient.
"""

from typing import Any, Protocol, Tuple, runtime_checkable

from thinc.types import FloatsXd


@runtime_checkable
class KeepsGradients(Protocol):
    """An optimizer that takes gradients over, so that none needs to be copied.

    It may change each in its place, so no two gradients may share memory: those of modules do not, those of a bare
    sum of two parameters may.
    """

    def keep(self, key: Tuple[int, str], weights: FloatsXd, gradient: FloatsXd) -> None: ...


@runtime_checkable
class AveragesUpdates(Protocol):
    """An optimizer that divides by the number of updates."""

    def average_over(self, n_updates: int) -> None: ...


class UpdateCount:
    """Counts a component's updates since its gradients were last handed to an optimizer."""

    def __init__(self) -> None:
        self.since_step = 0

    def report(self, sgd: Any) -> None:
        """Tell the optimizer, if it averages, and count from 0 again; to be called before it gets the gradients.

        sgd (Any): An optimizer, or a function in its place.
        """
        if self.since_step and isinstance(sgd, AveragesUpdates):
            sgd.average_over(self.since_step)
        self.since_step = 0
