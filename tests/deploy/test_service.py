"""The service: what it answers is what the pipeline says, and what it refuses it refuses with a reason."""

import asyncio
import json
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Dict, Iterator, List, Tuple

import httpx
import pytest
from fastapi.testclient import TestClient
from spacy.language import Language

from spacy_crf_ner.deploy.answers import Answerer
from spacy_crf_ner.deploy.service import Counted, create_app
from spacy_crf_ner.deploy.settings import Settings
from tests.deploy.util import listening
from tests.util import TEXTS, get_pipe, overfitted

READ = [text for text, _ in TEXTS]


@pytest.fixture(scope="module")
def nlp() -> Language:
    nlp = overfitted()
    ruler: Any = nlp.add_pipe("entity_ruler", last=True)
    ruler.add_patterns([{"label": "DAY", "pattern": [{"ORTH": "今"}, {"ORTH": "天"}]}])
    return nlp


@pytest.fixture(scope="module")
def client(nlp: Language) -> Iterator[TestClient]:
    with client_of(nlp) as made:
        yield made


def client_of(nlp: Language, **settings: Any) -> TestClient:
    return TestClient(create_app(Settings("here", **settings), nlp), raise_server_exceptions=False)


def ask(client: TestClient, text: Any, **more: Any) -> Any:
    for _ in range(100):
        response = client.post("/v1/entities", json={"text": text, **more})
        if response.status_code != 503:
            break
        time.sleep(0.05)
    assert response.status_code == 200, response.text
    return response.json()["docs"]


def entities(answer: Dict[str, Any]) -> List[Tuple[int, int, str]]:
    return [(ent["start"], ent["end"], ent["label"]) for ent in answer["entities"]]


def test_answers_are_what_the_pipeline_says(client: TestClient, nlp: Language) -> None:
    found = ask(client, READ)
    expected = [[(ent.start_char, ent.end_char, ent.label_) for ent in doc.ents] for doc in nlp.pipe(READ)]
    assert [entities(answer) for answer in found] == expected
    assert (0, 2, "DAY") in expected[2]
    for text, answer in zip(READ, found):
        assert all(text[ent["start"] : ent["end"]] == ent["text"] for ent in answer["entities"])
        assert all("score" not in ent for ent in answer["entities"]) and "k_best" not in answer
    assert ask(client, READ[0]) == found[:1]
    assert ask(client, []) == [] and ask(client, "") == [{"entities": []}]


def test_scores_and_alternatives_are_the_components(client: TestClient, nlp: Language) -> None:
    pipe = get_pipe(nlp, "crf_ner")
    docs = [nlp.make_doc(text) for text in READ]
    found = ask(client, READ, scores=True, k_best=3)
    for answer, scored, best in zip(found, pipe.predict_scores(docs), pipe.predict_kbest(docs, 3), strict=True):
        ours = {key: ent["score"] for key, ent in zip(entities(answer), answer["entities"]) if "score" in ent}
        theirs = {(s.start_char, s.end_char, s.label_): pytest.approx(score, abs=1e-6) for s, score in scored}
        assert ours == theirs
        assert [way["probability"] for way in answer["k_best"]] == [
            pytest.approx(way.probability, abs=1e-6) for way in best
        ]
        assert [entities(way) for way in answer["k_best"]] == [
            [(ent.start_char, ent.end_char, ent.label_) for ent in way.entities] for way in best
        ]


def test_offsets_may_count_as_javascript_does(client: TestClient) -> None:
    text = "😀😀" + READ[0]
    (characters,), (units,) = ask(client, text), ask(client, text, offsets="utf-16")
    assert characters["entities"] and len(characters["entities"]) == len(units["entities"])
    raw = text.encode("utf-16-le")
    for ours, theirs in zip(units["entities"], characters["entities"]):
        assert raw[2 * ours["start"] : 2 * ours["end"]].decode("utf-16-le") == theirs["text"]
        assert ours["end"] > theirs["end"]


def test_many_at_a_time_get_their_own(client: TestClient) -> None:
    expected = {text: ask(client, text) for text in READ}
    with ThreadPoolExecutor(16) as pool:
        texts = READ * 20
        for text, found in zip(texts, pool.map(lambda text: ask(client, text), texts)):
            assert found == expected[text]


REFUSED: Dict[str, Any] = {
    "no text": ({}, 422, "text: Field required"),
    "a number": ({"text": 3}, 422, "text."),
    "a number as a yes": ({"text": "a", "scores": 1}, 422, "scores: Input should be a valid boolean"),
    "an unknown setting": ({"text": "a", "score": True}, 422, "score: Extra inputs are not permitted"),
    "an unknown unit": ({"text": "a", "offsets": "bytes"}, 422, "offsets: Input should be 'characters' or"),
    "too many ways": ({"text": "a", "k_best": 21}, 422, "k_best: Input should be less than or equal to 20"),
    "a long text": ({"text": "a" * 101}, 422, "at most 100 characters"),
    "a long text among others": ({"text": ["a", "a" * 101]}, 422, "at most 100 characters"),
    "too many texts": ({"text": ["a"] * 6}, 422, "at most 5 items"),
    "a large body": ({"text": ["a" * 90] * 5, "offsets": "x" * 1000}, 413, "more than 1,000 bytes; send less"),
}


@pytest.mark.parametrize("body, status, said", REFUSED.values(), ids=REFUSED)
def test_what_is_refused_is_refused_with_a_reason(nlp: Language, body: Any, status: int, said: str) -> None:
    with client_of(nlp, max_characters=100, max_texts=5, max_bytes=1000) as client:
        response = client.post("/v1/entities", json=body)
    assert response.status_code == status
    assert said in response.json()["detail"] and "aaaaaaa" not in response.text


@pytest.mark.parametrize("data", [b"", b"{", b"\xff", b'{"text": "\\ud800"}', b"[1]", b'{"text": NaN}'])
def test_bad_bodies_are_refused(client: TestClient, data: bytes) -> None:
    response = client.post("/v1/entities", content=data, headers={"Content-Type": "application/json"})
    assert response.status_code in (400, 422)
    assert isinstance(response.json()["detail"], str)


def slow(nlp: Language, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    answer = Answerer.__call__

    def slowly(self: Answerer, questions: Any) -> Any:
        time.sleep(seconds)
        return answer(self, questions)

    monkeypatch.setattr(Answerer, "__call__", slowly)


def test_who_waits_too_long_is_told(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(nlp, monkeypatch, 0.5)
    with client_of(nlp, timeout=0.1) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.02)
        response = client.post("/v1/entities", json={"text": "北京"})
    assert response.status_code == 504 and "no answer within 0.1 seconds" in response.json()["detail"]


def test_too_many_are_told_to_come_again(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    slow(nlp, monkeypatch, 0.3)
    with client_of(nlp, max_waiting=2, max_texts=2) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.02)
        with ThreadPoolExecutor(8) as pool:
            responses = list(pool.map(lambda _: client.post("/v1/entities", json={"text": "北京"}), range(8)))
    statuses = [response.status_code for response in responses]
    assert set(statuses) == {200, 429} and statuses.count(200) >= 2
    assert all(response.headers["Retry-After"] == "1" for response in responses if response.status_code == 429)


def test_a_failing_pipe_is_an_error_of_the_service(
    nlp: Language, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def failing(self: Answerer, questions: Any) -> Any:
        raise RuntimeError("of a pipe, with the text 北京")

    monkeypatch.setattr(Answerer, "__call__", failing)
    with client_of(nlp) as client:
        while client.get("/readyz").status_code != 200:
            time.sleep(0.02)
        response = client.post("/v1/entities", json={"text": "北京"})
        assert response.status_code == 500 and response.json()["detail"] == "the pipeline has failed on this text"
        assert client.get("/healthz").text == "ok"
    (line,) = [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]
    assert line.startswith("a text could not be read: RuntimeError at ") and "test_service.py:" in line
    assert "北京" not in caplog.text


def test_each_request_is_one_line_without_its_text(client: TestClient, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, logger="spacy_crf_ner.service"):
        ask(client, READ[0])
    (line,) = [record.getMessage() for record in caplog.records if record.name == "spacy_crf_ner.service"]
    assert line.startswith("POST /v1/entities 200 ") and READ[0] not in line


def test_a_disabled_recognizer_is_refused() -> None:
    nlp = overfitted()
    nlp.disable_pipe("crf_ner")
    with pytest.raises(ValueError, match="component 'crf_ner' is disabled; enable it in the pipeline's config"):
        Answerer(nlp, "crf_ner")


def test_who_has_gone_is_not_answered(nlp: Language, monkeypatch: pytest.MonkeyPatch) -> None:
    answered: List[str] = []
    answer = Answerer.__call__

    def slowly(self: Answerer, questions: Any) -> Any:
        answered.extend(question.text for question in questions)
        time.sleep(1.0)
        return answer(self, questions)

    monkeypatch.setattr(Answerer, "__call__", slowly)
    with listening() as url, ThreadPoolExecutor(1) as pool:
        ask_url = f"{url}v1/entities"
        first = pool.submit(httpx.post, ask_url, json={"text": "first"}, timeout=60)
        time.sleep(0.3)
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(ask_url, json={"text": "gone"}, timeout=0.2)
        assert first.result().status_code == 200
        figures = httpx.get(f"{url}metrics").text
        assert httpx.post(ask_url, json={"text": "next"}, timeout=60).status_code == 200
    assert answered == ["first", "next"]
    assert 'crf_ner_requests_total{path="/v1/entities",status="499"} 1.0' in figures


def test_many_wrong_keys_are_one_error(client: TestClient) -> None:
    response = client.post("/v1/entities", json={"text": "a", **{f"key{i}": i for i in range(1000)}})
    assert response.status_code == 422 and response.json()["detail"].startswith(
        "the body: Value error, there are 1,001 keys"
    )
    few = client.post("/v1/entities", json={"text": "a", **{f"key{i}": i for i in range(50)}})
    assert few.status_code == 422 and few.json()["detail"].count("Extra inputs") == 10


def test_an_error_that_nobody_expects_is_counted_as_one() -> None:
    counted: List[int] = []

    async def failing(scope: Any, receive: Any, send: Any) -> None:
        raise RuntimeError

    counting = Counted(failing, lambda method, path, status, seconds: counted.append(status), ["/"])
    with pytest.raises(RuntimeError):
        asyncio.run(counting({"type": "http", "method": "GET", "path": "/"}, None, None))
    assert counted == [500]


def test_more_must_be_able_to_wait_than_a_request_may_have() -> None:
    with pytest.raises(ValueError, match="max_waiting must be max_texts or more, got 10 and 100"):
        Settings("here", max_waiting=10)


def test_figures_count_what_was_done(nlp: Language) -> None:
    with client_of(nlp) as client:
        ask(client, READ)
        figures = client.get("/metrics").text
    assert f"crf_ner_characters_total {float(sum(map(len, READ)))}" in figures
    assert 'crf_ner_requests_total{path="/v1/entities",status="200"} 1.0' in figures
    assert 'crf_ner_entities_total{label="PER"} 3.0' in figures
    assert f"crf_ner_batch_texts_sum {float(len(READ))}" in figures


def test_it_describes_itself(client: TestClient) -> None:
    described = client.get("/openapi.json").json()
    assert set(described["paths"]) == {"/v1/entities", "/healthz", "/readyz", "/metrics"}
    answers = described["paths"]["/v1/entities"]["post"]["responses"]
    assert {"200", "400", "408", "413", "422", "429", "500", "503", "504"} <= set(answers)
    page = client.get("/").text
    assert "<textarea" in page and "http://" not in page and "https://" not in page
    assert json.dumps(described)
