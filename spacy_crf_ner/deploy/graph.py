"""An ONNX graph in a Thinc model: saved with it, checked when it is loaded, and run by ONNX Runtime."""

import os
from hashlib import sha256
from threading import Lock
from typing import Any, Dict, List, Optional, Set

import srsly
from numpy.typing import NDArray
from thinc.shims.shim import Shim

from spacy_crf_ner.messages import one_line
from spacy_crf_ner.saved_state import AGAIN, SavedStateError, unpack

OPSET = 20
"""The version of ONNX's operations that graphs are written in."""

_making = [Lock()]
_left: List[Any] = []
"""Sessions of the parent of a forked process. Nothing in this process may end their threads."""


def _new_lock() -> None:
    """A thread of the parent may have held the lock when it forked."""
    _making[0] = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_new_lock)


class OnnxGraph:
    """A graph, and the session that runs it, which is made when it is first needed, in each process anew.

    data (bytes): The graph, as ONNX writes it.
    n_threads (int): Threads of one run.
    """

    def __init__(self, data: bytes, n_threads: int = 1) -> None:
        self.data = data
        self.n_threads = n_threads
        self._session: Any = None
        self._inputs: Set[str] = set()
        self._process: Optional[int] = None

    def __reduce__(self) -> Any:
        return OnnxGraph, (self.data, self.n_threads)

    def run(self, **inputs: NDArray[Any]) -> NDArray[Any]:
        """Run the graph. Many threads may do so at a time.

        inputs (NDArray): Its inputs by name; those that it does not have are left out.
        RETURNS (NDArray): Its one output.
        RAISES (SavedStateError): The runtime does not know what the graph asks for.
        """
        session = self._session_here()
        (output,) = session.run(None, {name: x for name, x in inputs.items() if name in self._inputs})
        return output

    def _session_here(self) -> Any:
        if self._process != os.getpid():
            with _making[0]:
                if self._process != os.getpid():
                    _left.append(self._session)
                    self._session = self._make_session()
                    self._inputs = {value.name for value in self._session.get_inputs()}
                    self._process = os.getpid()
        return self._session

    def _make_session(self) -> Any:
        try:
            import onnxruntime  # type: ignore[import-untyped]
        except ImportError:
            raise ImportError(
                "onnxruntime is not installed, which runs an exported pipeline; pip install onnxruntime"
            ) from None
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = self.n_threads
        options.log_severity_level = 4  # What fails is raised.
        try:
            return onnxruntime.InferenceSession(self.data, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # of a kind of its own for each reason
            raise SavedStateError(
                f"onnxruntime {onnxruntime.__version__} does not run the saved graph ({one_line(error)}); install "
                "a newer one, or export the pipeline again with a lower --opset"
            ) from error


class OnnxShim(Shim):
    """What an exported layer has: its graphs, and what else it must know.

    n_threads (int): Threads of one run.
    """

    def __init__(self, n_threads: int = 1) -> None:
        super().__init__(None)
        self.n_threads = n_threads
        self.graphs: Dict[str, OnnxGraph] = {}
        self.facts: Dict[str, Any] = {}

    def set(self, graphs: Dict[str, bytes], facts: Dict[str, Any]) -> None:
        """Take over graphs and facts.

        graphs (Dict[str, bytes]): The graphs by name.
        facts (Dict[str, Any]): What msgpack takes: numbers, texts, arrays.
        """
        self.graphs = {name: OnnxGraph(data, self.n_threads) for name, data in graphs.items()}
        self.facts = facts

    def to_bytes(self) -> bytes:
        """Graphs and facts, with a checksum of the graphs; nothing for a layer that has none yet."""
        if not self.graphs:
            return b""
        graphs = {name: graph.data for name, graph in self.graphs.items()}
        saved = {"graphs": graphs, "facts": self.facts, "sha256": _checksum(graphs)}
        return srsly.msgpack_dumps(saved)

    def from_bytes(self, bytes_data: bytes) -> "OnnxShim":
        """Load what `to_bytes` wrote.

        RAISES (SavedStateError): It is damaged, or a graph is not the one that was saved.
        """
        if not bytes_data:
            return self
        saved = unpack(bytes_data, "the saved graph")
        if not isinstance(saved, dict) or not saved.keys() >= {"graphs", "facts", "sha256"}:
            raise SavedStateError(f"the saved graph is not one of `crf export`; {AGAIN}")
        graphs, facts = saved["graphs"], saved["facts"]
        if not isinstance(graphs, dict) or not all(isinstance(data, bytes) for data in graphs.values()):
            raise SavedStateError(f"the saved graph is damaged; {AGAIN}")
        if _checksum(graphs) != saved["sha256"] or not isinstance(facts, dict):
            raise SavedStateError(
                f"the saved graph is not the one that was exported: its checksum differs; {AGAIN}"
            )
        self.set(graphs, facts)
        return self

    def to_device(self, device_type: str, device_id: int) -> None:
        """Nothing moves: ONNX Runtime computes on the CPU."""

    def finish_update(self, optimizer: Any) -> None:
        """Nothing learns."""


def refuse_training(what: str) -> None:
    """RAISES (ValueError): Always."""
    raise ValueError(f"{what} was exported and does not learn; train the pipeline that it was exported from")


def _checksum(graphs: Dict[str, bytes]) -> str:
    found = sha256()
    for name, data in sorted(graphs.items()):
        for part in (name.encode("utf8"), data):
            found.update(len(part).to_bytes(8, "big"))
            found.update(part)
    return found.hexdigest()
