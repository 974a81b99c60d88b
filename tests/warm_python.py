"""A `python` for the command lines of tests that has its imports behind it.

Each `python -m spacy ...` spends some ten seconds on importing spaCy, torch and transformers. Here one process
does so; the `python` that it puts on the path hands it arguments, folder, environment and standard streams, and it
forks a child for them. The child runs what `python` would: `-m MODULE`, `-c CODE`, a file, or standard input.
"""

import array
import contextlib
import importlib
import io
import json
import os
import runpy
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path
from typing import Any, Dict, List, Tuple

MODULES = [
    "matplotlib.pyplot",
    "peft",
    "seqeval.metrics",
    "spacy.cli",
    "spacy.lang.en",
    "spacy.lang.zh",
    "spacy_crf_ner.cli",
    "spacy_crf_ner.ner.factory",
    "spacy_transformers",
    "transformers",
]
"""What takes time to import. A module that is not installed is left to the command that asks for it."""


class WarmPython:
    """The process, and command lines whose `python` it is."""

    def __init__(self) -> None:
        # Not below pytest's folder: a socket's path must be short.
        self._folder = tempfile.TemporaryDirectory()
        folder = Path(self._folder.name)
        address = str(folder / "socket")
        client = shlex.join([sys.executable, "-I", "-S", __file__, "client", address])
        for name in ("python", "python3"):
            (folder / name).write_text(f'#!/bin/sh\nexec {client} "$@"\n', encoding="utf8")
            (folder / name).chmod(0o755)
        server = [sys.executable, __file__, "server", address, str(folder / "python")]
        self._server = subprocess.Popen(server, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        assert self._server.stdout is not None and self._server.stdout.readline() == b"ready\n"
        path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        self._environment = {**os.environ, "PATH": path, "COLUMNS": "80", "HF_HUB_OFFLINE": "1"}
        self.python = str(folder / "python")
        """What takes the place of `sys.executable`. SIGINT and SIGTERM reach what runs."""

    def spacy(self, *arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run `python -m spacy ARGUMENTS` with streams of its own.

        arguments (object): The arguments.
        options (Any): Of `subprocess.run`.
        RETURNS (CompletedProcess): The exit status, standard output and standard error.
        """
        command = [self.python, "-m", "spacy", *map(str, arguments)]
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.run(command, **{"encoding": "utf8", "timeout": 120, **streams, **options})

    def run(self, command: str, folder: Path) -> Tuple[int, str]:
        """Run a command line of bash.

        command (str): The command line.
        folder (Path): Where.
        RETURNS (Tuple[int, str]): The exit status of it or, in a pipeline, of what failed, and what was printed to
            standard output and standard error, in the order of a terminal.
        """
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", command],
            cwd=folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf8",
        )
        return done.returncode, done.stdout

    def stop(self) -> None:
        """End the process."""
        self._server.kill()
        self._server.wait()
        self._folder.cleanup()


def _serve(address: str, python: str) -> None:
    for name in MODULES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    # What starts a further Python, as `spacy project run` does, is to start a warm one.
    sys.executable = python
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(address)
        server.listen()
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                _run_job(connection)
            connection.close()
            _reap()


def _reap() -> None:
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


def _run_job(connection: socket.socket) -> None:
    """Run what a client asks for, in its place, and tell it the exit status; does not return."""
    status = 1
    try:
        job = _receive(connection)
        connection.sendall(os.getpid().to_bytes(4, "big"))
        os.chdir(job["folder"])
        os.environ.clear()
        os.environ.update(job["environment"])
        status = _status_of(job["arguments"])
    finally:
        sys.stdout.flush()
        connection.sendall(bytes([status & 255]))
        os._exit(0)


def _receive(connection: socket.socket) -> Dict[str, Any]:
    """The client's job; its streams become this process's."""
    streams = array.array("i")
    size = 3 * streams.itemsize
    data, ancillary, _, _ = connection.recvmsg(8, socket.CMSG_LEN(size))
    ((_, _, passed),) = ancillary
    streams.frombytes(passed[:size])
    for target, stream in enumerate(streams):
        os.dup2(stream, target)
        os.close(stream)
    assert isinstance(sys.stdout, io.TextIOWrapper)
    sys.stdout.reconfigure(line_buffering=True)
    length = int.from_bytes(data, "big")
    job = b""
    while len(job) < length:
        job += connection.recv(length - len(job))
    return json.loads(job)


def _status_of(arguments: List[str]) -> int:
    try:
        _run(arguments)
    except SystemExit as stop:
        if stop.code is None or isinstance(stop.code, int):
            return stop.code or 0
        print(stop.code, file=sys.stderr)
        return 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _run(arguments: List[str]) -> None:
    first = arguments[0] if arguments else "-"
    if first == "-m":
        sys.path[0] = os.getcwd()
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    elif first in ("-c", "-"):
        sys.path[0] = ""
        sys.argv = [first, *arguments[2:]]
        code = arguments[1] if first == "-c" else sys.stdin.read()
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    else:
        sys.path[0] = str(Path(first).resolve().parent)
        sys.argv = arguments
        runpy.run_path(first, run_name="__main__")


def _ask(address: str, arguments: List[str]) -> int:
    """Hand a command line to the server; its exit status."""
    job = json.dumps({"arguments": arguments, "folder": os.getcwd(), "environment": dict(os.environ)}).encode()
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(address)
        streams = array.array("i", [0, 1, 2])
        connection.sendmsg([len(job).to_bytes(8, "big")], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, streams)])
        connection.sendall(job)
        pid = int.from_bytes(connection.recv(4), "big")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda number, _: os.kill(pid, number))
        answer = connection.recv(1)
    return answer[0] if answer else 1


if __name__ == "__main__":
    if sys.argv[1] == "server":
        _serve(*sys.argv[2:])
    else:
        sys.exit(_ask(sys.argv[2], sys.argv[3:]))
