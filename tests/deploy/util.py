"""A service that listens, in a thread."""

import threading
import time
from contextlib import contextmanager
from typing import Any, Iterator

import uvicorn

from spacy_crf_ner.deploy.service import create_app
from spacy_crf_ner.deploy.settings import Settings
from tests.util import overfitted


@contextmanager
def listening(**settings: Any) -> Iterator[str]:
    """Let the service of a small pipeline listen.

    settings (Any): Its settings.
    YIELDS (str): Its address, with a slash at the end.
    """
    config = uvicorn.Config(create_app(Settings("here", **settings), overfitted()), port=0, log_level="error")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    while not server.started:
        time.sleep(0.05)
    try:
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
