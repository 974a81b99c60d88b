"""The service: a pipeline behind HTTP."""

import asyncio
import json
import logging
import os
import signal
import time
from collections import Counter as CountOf
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from traceback import extract_tb
from typing import Annotated, Any, AsyncIterator, Callable, Collection, Dict, List, Literal, Optional, Union

from fastapi import FastAPI, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from spacy.language import Language

from spacy_crf_ner.deploy.answers import Answerer, Question
from spacy_crf_ner.deploy.batching import Batcher, QueueFull
from spacy_crf_ner.deploy.settings import Settings
from spacy_crf_ner.evaluation.predictions import component_name, load_pipeline

PAGE = Path(__file__).parent / "templates" / "page.html"
MOST_WAYS = 20
MOST_KEYS, MOST_ERRORS = 100, 10
PATHS = ("/", "/v1/entities", "/healthz", "/readyz", "/metrics", "/docs", "/openapi.json")
GONE = 499
"""The status that servers write for a client that has gone."""
logger = logging.getLogger("spacy_crf_ner.service")


class Entity(BaseModel):
    """An entity. `start` and `end` count characters, or UTF-16 units if those were asked for."""

    start: int
    end: int
    text: str
    label: str
    score: Optional[float] = Field(None, description="Its probability, if it was asked for")


class Way(BaseModel):
    """One way to mark a text."""

    probability: float
    entities: List[Entity]


class Marked(BaseModel):
    """What is marked in a text."""

    entities: List[Entity]
    k_best: Optional[List[Way]] = Field(None, description="The most probable ways to mark it, if asked for")


class Answers(BaseModel):
    """One per text, in order."""

    docs: List[Marked]


class Problem(BaseModel):
    """The reason of a refusal or an error."""

    detail: str


def create_app(settings: Settings, nlp: Optional[Language] = None) -> FastAPI:
    """Make the service.

    settings (Settings): Its settings.
    nlp (Optional[Language]): The pipeline, if it is loaded already. Otherwise it is loaded in the background, and
        the service is not ready before.
    RETURNS (FastAPI): The application.
    """
    registry = CollectorRegistry()
    requests = Counter("crf_ner_requests_total", "Requests", ["path", "status"], registry=registry)
    seconds = Histogram("crf_ner_request_seconds", "Seconds per request", ["path"], registry=registry)
    sizes = Histogram(
        "crf_ner_batch_texts", "Texts computed together", buckets=(1, 2, 4, 8, 16, 32, 64, 128), registry=registry
    )
    characters = Counter("crf_ner_characters_total", "Characters that were read", registry=registry)
    entities = Counter("crf_ner_entities_total", "Entities that were found", ["label"], registry=registry)
    state: Dict[str, Batcher] = {}

    class Asked(BaseModel):
        """Texts, and what is wanted of them."""

        model_config = ConfigDict(extra="forbid", strict=True)

        @model_validator(mode="before")
        @classmethod
        def _few_keys(cls, given: Any) -> Any:
            # One error, where there could be as many as keys.
            if isinstance(given, dict) and len(given) > MOST_KEYS:
                raise ValueError(f"there are {len(given):,} keys; give those that are described")
            return given

        text: Union[
            Annotated[str, Field(max_length=settings.max_characters)],
            Annotated[
                List[Annotated[str, Field(max_length=settings.max_characters)]],
                Field(max_length=settings.max_texts),
            ],
        ] = Field(description="One text, or several")
        offsets: Literal["characters", "utf-16"] = Field("characters", description="What start and end count")
        scores: bool = Field(False, description="The probability of each entity")
        k_best: Annotated[int, BeforeValidator(_whole)] = Field(
            0, ge=0, le=MOST_WAYS, description="How many ways to mark each text"
        )

    async def serve() -> None:
        loop = asyncio.get_running_loop()
        try:
            batcher = Batcher(
                await loop.run_in_executor(None, load),
                seconds=settings.batch_milliseconds / 1000,
                max_batch=settings.batch_texts,
                max_characters=settings.batch_characters,
                max_waiting=settings.max_waiting,
                observe=sizes.observe,
            )
            state["batcher"] = batcher
            await batcher.run()
        except Exception as error:
            # A process that cannot answer ends; where there are several, another one takes its place.
            state.clear()
            logger.error("the service ends: %s", _without_text(error))
            os.kill(os.getpid(), signal.SIGTERM)

    def load() -> Answerer:
        pipeline = load_pipeline(settings.model) if nlp is None else nlp
        return Answerer(pipeline, component_name(pipeline, settings.model, settings.component))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        task = asyncio.create_task(serve())
        yield
        state.clear()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    app = FastAPI(
        title="spacy-crf-ner",
        description="Named entities of texts",
        version="1",
        lifespan=lifespan,
        redoc_url=None,
    )

    def count(method: str, path: str, status: int, taken: float) -> None:
        requests.labels(path, status).inc()
        seconds.labels(path).observe(taken)
        # Never the text.
        logger.info("%s %s %d %.1f ms", method, path, status, taken * 1000)

    app.add_middleware(BodyLimit, max_bytes=settings.max_bytes, seconds=settings.timeout)
    app.add_middleware(Counted, count=count, paths=PATHS)

    @app.exception_handler(RequestValidationError)
    async def refuse(request: Request, error: RequestValidationError) -> JSONResponse:
        # Without what was given: a text is not repeated, and may hold what no answer can.
        said = "; ".join(
            f"{'.'.join(map(str, part['loc'][1:])) or 'the body'}: {part['msg']}"
            for part in error.errors()[:MOST_ERRORS]
        )
        return JSONResponse({"detail": said.encode("utf8", "replace").decode("utf8")}, 422)

    refusals: Dict[Union[int, str], Dict[str, Any]] = {
        status: {"model": Problem} for status in (400, 408, 413, 422, 429, 500, 503, 504)
    }

    @app.post("/v1/entities", response_model=Answers, responses=refusals)
    async def find_entities(asked: Asked, request: Request) -> Response:
        """Find the entities of one text or of several."""
        texts = [asked.text] if isinstance(asked.text, str) else asked.text
        batcher = _ready()
        if not texts:
            return JSONResponse({"docs": []})
        questions = [Question(text, asked.scores, asked.k_best, asked.offsets) for text in texts]
        answering = asyncio.ensure_future(batcher.ask(questions))
        leaving = asyncio.ensure_future(_gone(request))
        try:
            await asyncio.wait({answering, leaving}, timeout=settings.timeout, return_when=asyncio.FIRST_COMPLETED)
            if not answering.done():
                if leaving.done():
                    return Response(status_code=GONE)
                raise HTTPException(504, f"no answer within {settings.timeout:g} seconds; send less")
            answers = answering.result()
        except QueueFull:
            raise HTTPException(429, "too many texts are waiting; try again", {"Retry-After": "1"}) from None
        except HTTPException:
            raise
        except Exception as error:
            logger.error("a text could not be read: %s", _without_text(error))
            raise HTTPException(500, "the pipeline has failed on this text") from None
        finally:
            answering.cancel()
            leaving.cancel()
        characters.inc(sum(map(len, texts)))
        for label, n in CountOf(entity["label"] for answer in answers for entity in answer["entities"]).items():
            entities.labels(label).inc(n)
        # It is of the form that is described: to check it again would hold up the others.
        content = await asyncio.get_running_loop().run_in_executor(None, _json_of, answers)
        return Response(content, media_type="application/json")

    def _ready() -> Batcher:
        if "batcher" not in state:
            raise HTTPException(503, "the pipeline is being loaded; try again", {"Retry-After": "1"})
        return state["batcher"]

    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthz() -> str:
        """The process lives."""
        return "ok"

    @app.get("/readyz", response_class=PlainTextResponse, responses={503: {"model": Problem}})
    async def readyz() -> str:
        """The pipeline is loaded."""
        _ready()
        return "ok"

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Figures for Prometheus, of all processes."""
        found = registry
        if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
            found = CollectorRegistry()
            MultiProcessCollector(found)
        return Response(generate_latest(found), media_type=CONTENT_TYPE_LATEST)

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> str:
        return PAGE.read_text(encoding="utf8")

    return app


async def _gone(request: Request) -> None:
    """Wait until the client has left."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _json_of(answers: List[Dict[str, Any]]) -> bytes:
    return json.dumps({"docs": answers}, ensure_ascii=False, separators=(",", ":")).encode("utf8")


def _whole(value: Any) -> Any:
    # In JSON 3.0 is an integer, too.
    return int(value) if isinstance(value, float) and value.is_integer() else value


def app_from_environment() -> FastAPI:
    """The service of a worker process."""
    return create_app(Settings.from_environment())


def _without_text(error: BaseException) -> str:
    """What an error is and where it was raised. Its message may quote a text."""
    places = (f"{Path(frame.filename).name}:{frame.lineno}" for frame in extract_tb(error.__traceback__))
    return f"{type(error).__name__} at {' > '.join(places)}"


def _refusal(status: int, detail: str) -> JSONResponse:
    """The answer to a request whose body is not read to its end. What comes yet belongs to no request."""
    return JSONResponse({"detail": detail}, status, {"Connection": "close"})


class Counted:
    """Tells of each request that was answered.

    app (Any): The ASGI application behind it.
    count (Callable[[str, str, int, float], None]): Called with method, path, status and seconds.
    paths (Collection[str]): The paths that are told; all others are "other".
    """

    def __init__(self, app: Any, count: Callable[[str, str, int, float], None], paths: Collection[str]) -> None:
        self.app = app
        self.count = count
        self.paths = paths

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        begin = time.perf_counter()
        statuses: List[int] = []

        async def noting(message: Any) -> None:
            if message["type"] == "http.response.start":
                statuses.append(message["status"])
            await send(message)

        try:
            await self.app(scope, receive, noting)
        except Exception:
            statuses.append(500)  # which the server answers then
            raise
        finally:
            path = scope["path"] if scope["path"] in self.paths else "other"
            self.count(scope["method"], path, statuses[0] if statuses else GONE, time.perf_counter() - begin)


class BodyLimit:
    """Refuses bodies that are too large before they are read into memory, and those that do not come to an end.

    app (Any): The ASGI application behind it.
    max_bytes (int): The most bytes of a body.
    seconds (float): How long it may take to arrive.
    """

    def __init__(self, app: Any, max_bytes: int, seconds: float) -> None:
        self.app = app
        self.max_bytes = max_bytes
        self.seconds = seconds

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        try:
            body = await asyncio.wait_for(self._body(receive), self.seconds)
        except asyncio.TimeoutError:
            await _refusal(408, f"the body has not come within {self.seconds:g} seconds; try again")(
                scope, receive, send
            )
            return
        except OverflowError:
            await _refusal(413, f"the body has more than {self.max_bytes:,} bytes; send less")(
                scope, receive, send
            )
            return
        if body is None:
            return  # The client has gone.
        whole = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Any:
            return whole.pop() if whole else await receive()

        await self.app(scope, replay, send)

    async def _body(self, receive: Any) -> Optional[bytes]:
        """None if the client has gone. Raises OverflowError where it is too large."""
        body = bytearray()
        more = True
        while more:
            message = await receive()
            if message["type"] != "http.request":
                return None
            body += message.get("body", b"")
            if len(body) > self.max_bytes:
                raise OverflowError
            more = message.get("more_body", False)
        return bytes(body)
