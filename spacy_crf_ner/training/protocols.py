"""How a component tells an optimizer that the gradient it hands over is a sum over several updates.

spaCy adds up the gradients of the batches between two steps (`[training] accumulate_gradient`). Each is that of a
mean loss, so unless their number is divided out, it multiplies the gradient.
"""

from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class AveragesUpdates(Protocol):
    """An optimizer that divides by the number of updates; spaCy's own do not."""

    def average_over(self, n_updates: int) -> None: ...


class UpdateCount:
    """Counts a component's updates since its gradients were last handed to an optimizer."""

    def __init__(self) -> None:
        self.since_step = 0

    def report(self, sgd: Any) -> None:
        """Tell the optimizer, if it listens, and count from 0 again; to be called before it gets the gradients.

        sgd (Any): An optimizer, or a function that stands in for one.
        """
        if self.since_step and isinstance(sgd, AveragesUpdates):
            sgd.average_over(self.since_step)
        self.since_step = 0
