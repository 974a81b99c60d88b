"""`crf serve` as a process: it starts, serves, loses a worker, and ends when it is told to."""

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Iterator, List

import httpx
import pytest
import spacy
from typer.testing import CliRunner

from spacy_crf_ner.cli import app
from tests.util import TEXTS, ents, overfitted

pytestmark = pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    overfitted().to_disk(path)
    return path


class Service:
    """A process that serves."""

    def __init__(self, model: Path, *more: Any) -> None:
        command = [sys.executable, "-m", "spacy", "crf", "serve", str(model), "--port", "0", *map(str, more)]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.lines: List[str] = []
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line)
            if "running on" in line:
                break
        self.url = self.lines[-1].partition("running on ")[2].split()[0]
        self.reader = ThreadPoolExecutor(1).submit(lambda: self.lines.extend(self.process.stderr or ()))

    def wait(self) -> None:
        for _ in range(600):
            try:
                if httpx.get(f"{self.url}/readyz").status_code == 200:
                    return
            except httpx.TransportError:
                pass
            time.sleep(0.1)
        raise AssertionError("it is not ready after a minute")

    def ask(self, text: Any) -> Any:
        return httpx.post(f"{self.url}/v1/entities", json={"text": text}, timeout=60).raise_for_status().json()


@pytest.fixture
def started() -> Iterator[List[Service]]:
    services: List[Service] = []
    yield services
    for service in services:
        service.process.kill()
        service.process.wait()


@pytest.mark.slow
def test_it_serves_and_ends_when_it_is_told_to(model: Path, started: List[Service]) -> None:
    service = Service(model)
    started.append(service)
    service.wait()
    texts = [text for text, _ in TEXTS]
    expected = [ents(doc) for doc in spacy.load(model).pipe(texts)]

    def found(answers: Any) -> Any:
        return [[(ent["text"], ent["label"]) for ent in answer["entities"]] for answer in answers["docs"]]

    assert found(service.ask(texts)) == expected
    # What was asked before it is told to end is answered.
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(service.ask, texts * 20)
        time.sleep(0.1)
        service.process.send_signal(signal.SIGTERM)
        assert found(asked.result()) == expected * 20
    assert service.process.wait(timeout=30) in (0, -signal.SIGTERM)
    service.reader.result(timeout=10)
    assert not [line for line in service.lines if "Traceback" in line or TEXTS[0][0] in line]


@pytest.mark.slow
def test_a_dead_worker_is_replaced(model: Path, started: List[Service]) -> None:
    service = Service(model, "--workers", 2)
    started.append(service)
    service.wait()
    workers = children(service.process.pid)
    assert len(workers) >= 2
    os.kill(workers[-1], signal.SIGKILL)
    for _ in range(600):
        now = children(service.process.pid)
        if workers[-1] not in now and len(now) == len(workers):
            break
        time.sleep(0.1)
    assert workers[-1] not in now and len(now) == len(workers)
    service.wait()
    for _ in range(10):
        service.ask("北京")
    assert 'path="/v1/entities",status="200"} 10.0' in httpx.get(f"{service.url}/metrics").text
    service.process.send_signal(signal.SIGTERM)
    service.process.wait(timeout=30)
    service.reader.result(timeout=10)
    # The workers write their lines, too.
    assert len([line for line in service.lines if "POST /v1/entities 200 " in line]) == 10


@pytest.mark.slow
def test_slow_clients_do_not_fill_it(model: Path, started: List[Service]) -> None:
    service = Service(model, "--timeout", 1, "--max-connections", 1)
    started.append(service)
    service.wait()
    host, _, port = service.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as slow:
        slow.sendall(b"POST /v1/entities HTTP/1.1\r\nHost: here\r\nContent-Length: 100\r\n\r\n{")
        time.sleep(0.2)
        assert httpx.get(f"{service.url}/healthz").status_code == 503
        said = b""
        while part := slow.recv(4096):
            said += part
    assert said.startswith(b"HTTP/1.1 408 ") and b"the body has not come within 1 seconds; try again" in said
    service.wait()
    assert service.ask(TEXTS[0][0])["docs"][0]["entities"]


def children(process: int) -> List[int]:
    """The worker processes; not what multiprocessing needs beside them."""
    found = subprocess.run(["ps", "-o", "pid=,args=", "--ppid", str(process)], capture_output=True, text=True)
    lines = [line.split(maxsplit=1) for line in found.stdout.splitlines()]
    return [int(pid) for pid, args in lines if "resource_tracker" not in args]


def test_what_cannot_be_loaded_is_said_before_it_listens(tmp_path: Path) -> None:
    spacy.blank("zh").to_disk(tmp_path)
    for given, said in ((tmp_path, "has no crf_ner (it has nothing)"), (tmp_path / "none", "cannot be loaded")):
        result = CliRunner().invoke(app, ["serve", str(given)])
        assert result.exit_code == 1
        assert said in result.output and len(result.output.strip().splitlines()) == 1


def test_without_its_packages_the_extra_is_named(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result = CliRunner().invoke(app, ["serve", str(model)])
    assert result.exit_code == 1
    assert "uvicorn is not installed; pip install 'spacy-crf-ner[serve]'" in result.output
