"""What a pipeline was saved as, read as what a stranger may have written: one clear error, and no code run."""

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Dict, Iterator, List, Mapping

import srsly
from thinc.api import Ops
from thinc.util import convert_recursive, is_xp_array

from spacy_crf_ner.messages import one_line, quote, some

if TYPE_CHECKING:  # It takes seconds to import, which not everyone who loads a pipeline needs.
    from torch import Tensor, nn

AGAIN = "fetch the pipeline again, or save it again"


class SavedStateError(ValueError):
    """What was saved cannot be loaded; the message says why, and what to do."""


def unpack(data: object, what: str) -> Any:
    """Read msgpack.

    data (object): The bytes.
    what (str): What they are, for the error.
    RETURNS (Any): What they hold.
    RAISES (SavedStateError): They are not bytes, or damaged, or cut off.
    """
    if not isinstance(data, (bytes, memoryview)):
        raise SavedStateError(f"{what} must be bytes, got {quote(data)}; {AGAIN}")
    collects = gc.isenabled()
    try:
        return srsly.msgpack_loads(data)
    except Exception as error:  # of any kind, as the bytes are of any kind
        raise SavedStateError(f"{what} is damaged or cut off ({reason(error)}); {AGAIN}") from error
    finally:
        # srsly switches the garbage collector off, and leaves it off where it raises.
        if collects:
            gc.enable()


def unpack_model(data: object, ops: Ops) -> Dict[str, Any]:
    """What `Model.from_dict` takes, of the bytes that `Model.to_bytes` wrote.

    data (object): The bytes.
    ops (Ops): Where the model's arrays shall be.
    RETURNS (Dict[str, Any]): The model.
    RAISES (SavedStateError): They are damaged, or no model.
    """
    saved = unpack(data, "the saved model")
    if not isinstance(saved, dict) or not saved.keys() >= {"nodes", "attrs", "params", "shims"}:
        raise SavedStateError(f"the saved model is not a model of Thinc; {AGAIN}")
    return convert_recursive(is_xp_array, ops.asarray, saved)


@contextmanager
def explained(what: str = "") -> Iterator[None]:
    """Say of what is loaded inside what it is: errors from deep inside become one that says what to do.

    what (str): What is loaded, as "component 'crf_ner'"; begins the message, unless it is empty.
    RAISES (SavedStateError): What was loaded is damaged, or does not fit its configuration.
    """
    begin = f"{what}: " if what else ""
    try:
        yield
    except (OSError, ImportError):
        raise
    except SavedStateError as error:
        raise SavedStateError(f"{begin}{error}") from error
    except Exception as error:
        raise SavedStateError(
            f"{begin}the saved model is damaged, or is not of the model that the config describes "
            f"({reason(error)}); {AGAIN}, with the config that was saved with it"
        ) from error


def reason(error: BaseException) -> str:
    """What an error of another library says, in brief."""
    said = one_line(error)
    # Its end as well: sizes are there, behind the name of a model that may be long.
    brief = said if len(said) <= 300 else f"{said[:150]}…{said[-150:]}"
    return f"{type(error).__name__}: {brief}" if said else type(error).__name__


def mismatches(expected: "Mapping[str, Tensor]", state: "Mapping[str, Tensor]") -> List[str]:
    """Compare saved weights with those of the module that shall take them.

    expected (Mapping[str, Tensor]): The module's.
    state (Mapping[str, Tensor]): The saved ones.
    RETURNS (List[str]): What is missing, left over, or of another shape; empty if they fit.
    """
    common = expected.keys() & state.keys()
    kinds = {
        "missing": sorted(expected.keys() - state.keys()),
        "left over": sorted(state.keys() - expected.keys()),
        "misshapen": sorted(name for name in common if expected[name].shape != state[name].shape),
    }
    return [f"{some(names)} {kind}" for kind, names in kinds.items() if names]


def load_exactly(module: "nn.Module", state: "Dict[str, Tensor]") -> None:
    """Put saved weights into a module that takes all of them and no others.

    module (nn.Module): The module.
    state (Dict[str, Tensor]): The weights.
    RAISES (SavedStateError): A weight is missing, left over or misshapen.
    """
    if found := mismatches(module.state_dict(), state):
        raise SavedStateError(f"the saved weights do not fit the saved sizes: {'; '.join(found)}; {AGAIN}")
    module.load_state_dict(state)
