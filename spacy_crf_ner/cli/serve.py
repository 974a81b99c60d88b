"""`python -m spacy crf serve`: a pipeline behind HTTP."""

import os
from copy import deepcopy
from math import ceil
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Dict, Optional

from typer import Option

from spacy_crf_ner.cli._app import app
from spacy_crf_ner.cli._errors import one_line_errors
from spacy_crf_ner.cli._options import ModelArgument
from spacy_crf_ner.deploy.answers import Answerer
from spacy_crf_ner.deploy.settings import Settings
from spacy_crf_ner.evaluation.predictions import component_name, load_pipeline


@app.command("serve")
def serve_cli(
    model: ModelArgument,
    host: Annotated[str, Option(help="Address to listen on; 0.0.0.0 for all of this machine's")] = "127.0.0.1",
    port: Annotated[int, Option(min=0, max=65535, help="Port to listen on; 0 for a free one")] = 8080,
    workers: Annotated[int, Option(min=1, help="Processes, each with a pipeline of its own")] = 1,
    max_characters: Annotated[int, Option(min=1, help="Of a text")] = Settings.max_characters,
    max_texts: Annotated[int, Option(min=1, help="Of a request")] = Settings.max_texts,
    max_bytes: Annotated[int, Option(min=1, help="Of a request's body")] = Settings.max_bytes,
    max_waiting: Annotated[
        int, Option(min=1, help="Texts that may wait for an answer, in each process")
    ] = Settings.max_waiting,
    max_connections: Annotated[int, Option(min=1, help="Open connections of each process")] = 1_000,
    timeout: Annotated[
        float, Option(min=0.001, help="Seconds after which a request is given up, and a body that has not come")
    ] = Settings.timeout,
    batch_milliseconds: Annotated[
        float, Option(min=0, help="How long a text waits for others at most, to be computed with them")
    ] = Settings.batch_milliseconds,
    batch_texts: Annotated[int, Option(min=1, help="Texts that are computed together")] = Settings.batch_texts,
    batch_characters: Annotated[
        int, Option(min=1, help="Characters that are computed together; a longer text is computed alone")
    ] = Settings.batch_characters,
    component: Annotated[Optional[str], Option(help="Which component, if several are crf_ner")] = None,
) -> None:
    """Serve a pipeline: POST /v1/entities, a page at /, a description at /docs, Prometheus figures at /metrics.

    One process computes one batch at a time; texts that arrive together are computed together. What is exported by
    `crf export` is served several times faster.
    """
    with one_line_errors():
        try:
            import fastapi  # noqa: F401
            import uvicorn
        except ImportError as error:
            raise ValueError(f"{error.name} is not installed; pip install 'spacy-crf-ner[serve]'") from None
        # What cannot be loaded is said before anything listens.
        nlp = load_pipeline(model)
        Answerer(nlp, component_name(nlp, model, component))
        settings = Settings(
            model,
            component,
            max_characters=max_characters,
            max_texts=max_texts,
            max_bytes=max_bytes,
            max_waiting=max_waiting,
            timeout=timeout,
            batch_milliseconds=batch_milliseconds,
            batch_texts=batch_texts,
            batch_characters=batch_characters,
        )
        run: Dict[str, Any] = {
            "host": host,
            "port": port,
            "access_log": False,  # The service says a line of its own.
            "log_config": _log_config(uvicorn.config.LOGGING_CONFIG),
            "limit_concurrency": max_connections + 1,  # It refuses at the limit.
            # For requests that are being read and answered when the service is told to stop.
            "timeout_graceful_shutdown": ceil(2 * timeout) + 1,
        }
        from spacy_crf_ner.deploy.service import create_app

        if workers == 1:
            uvicorn.run(create_app(settings, nlp), **run)
            return
        del nlp
        settings.to_environment()
        with TemporaryDirectory() as folder:
            # For the workers, which are new processes.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder
            target = "spacy_crf_ner.deploy.service:app_from_environment"
            uvicorn.run(target, factory=True, workers=workers, **run)


def _log_config(config: Dict[str, Any]) -> Dict[str, Any]:
    """uvicorn's, which reaches the workers, with the service's lines and the time."""
    made = deepcopy(config)
    made["formatters"]["default"]["fmt"] = "%(asctime)s %(levelprefix)s %(message)s"
    made["loggers"]["spacy_crf_ner.service"] = {"handlers": ["default"], "level": "INFO", "propagate": False}
    return made
