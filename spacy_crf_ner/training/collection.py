"""When an optimizer that needs all gradients of a step has them, though they come in one by one.

Thinc hands over one parameter at a time and does not say which is the last. `spacy train` calls
`Optimizer.step_schedules` after all pipes; in a loop of ``nlp.update(examples, sgd=optimizer)`` nobody does.
"""

from enum import Enum
from typing import Dict, Generic, Hashable, NamedTuple, Set, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class StepsBy(Enum):
    """Who says that a step has all its gradients.

    UNKNOWN: Nobody yet: no parameter has come in twice, and nobody has called.
    CALLER: The one who calls `Collection.by_caller`.
    PARAMETERS: The parameters: those of the last step are those of the next.
    """

    UNKNOWN = "unknown"
    CALLER = "caller"
    PARAMETERS = "parameters"


class Collected(NamedTuple, Generic[K, V]):
    """The gradients of a step.

    values (Dict[K, V]): What has come in, by parameter.
    n_updates (int): How many updates each gradient sums up.
    """

    values: Dict[K, V]
    n_updates: int


class Collection(Generic[K, V]):
    """Collects what comes in by parameter until a step has all of it."""

    def __init__(self) -> None:
        self._steps_by = StepsBy.UNKNOWN
        self._values: Dict[K, V] = {}
        self._n_updates = 1
        self._announced = 1  # the updates that the gradients sum up which are yet to come in
        self._awaited: Set[K] = set()  # under PARAMETERS: those of the last step that are yet to come in

    def by_caller(self) -> None:
        """The caller says when a step has all its gradients, from now on."""
        self._steps_by = StepsBy.CALLER

    def announce(self, n_updates: int) -> None:
        """Say how many updates the gradients sum up that come in next. Of different numbers for one step, the
        largest counts."""
        self._announced = max(self._announced, n_updates)

    def is_repeated(self, key: K) -> bool:
        """Whether a parameter has come in for this step already: the step is over, and `take` is to be called
        before the parameter is added. If nobody has said when a step is complete, the parameters do from now on.

        key (K): The parameter.
        """
        if key not in self._values:
            return False
        if self._steps_by is StepsBy.UNKNOWN:
            self._steps_by = StepsBy.PARAMETERS
        return True

    def add(self, key: K, value: V) -> bool:
        """Add what has come in.

        key (K): The parameter.
        value (V): What has come in.
        RETURNS (bool): Whether the step has all its gradients.
        """
        self._values[key] = value
        self._n_updates = max(self._n_updates, self._announced)
        self._announced = 1
        if self._steps_by is not StepsBy.PARAMETERS:
            return False
        self._awaited.discard(key)
        return not self._awaited

    def take(self) -> Collected[K, V]:
        """Take what has come in, and begin anew.

        RETURNS (Collected): The gradients of a step; there may be none.
        """
        collected = Collected(self._values, self._n_updates)
        self._values, self._n_updates = {}, 1
        if collected.values:
            self._awaited = set(collected.values)
        return collected

    def take_all(self) -> Collected[K, V]:
        """As `take`, at a caller's word: what was announced counts for what is here."""
        self._n_updates, self._announced = max(self._n_updates, self._announced), 1
        return self.take()
