"""Questions that arrive together are answered together; each asker gets its own answers, and none is forgotten."""

import asyncio
import threading
import time
from typing import Any, Awaitable, Callable, List, Sequence

import pytest

from spacy_crf_ner.deploy.answers import Answer, Question
from spacy_crf_ner.deploy.batching import Batcher, QueueFull


class Echo:
    """Answers with the text. It fails on "bad", and takes its time if asked to."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.batches: List[List[str]] = []
        self.threads: List[int] = []
        self.seconds = seconds

    def __call__(self, questions: Sequence[Question]) -> List[Answer]:
        self.batches.append([question.text for question in questions])
        self.threads.append(threading.get_ident())
        time.sleep(self.seconds)
        if any(question.text == "bad" for question in questions):
            raise RuntimeError("bad text")
        return [{"text": question.text} for question in questions]


def run(echo: Echo, use: Callable[[Batcher], Awaitable[Any]], **settings: Any) -> Any:
    async def all_of_it() -> Any:
        batcher = Batcher(
            echo, **{"seconds": 0.05, "max_batch": 8, "max_characters": 1000, "max_waiting": 100, **settings}
        )
        task = asyncio.create_task(batcher.run())
        try:
            return await use(batcher)
        finally:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    return asyncio.run(all_of_it())


def asked(*texts: str) -> List[Question]:
    return [Question(text) for text in texts]


def test_those_that_come_together_are_answered_together() -> None:
    echo = Echo()

    async def use(batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.ask(asked(f"a{i}", f"b{i}")) for i in range(10)))

    found = run(echo, use)
    assert found == [[{"text": f"a{i}"}, {"text": f"b{i}"}] for i in range(10)]
    assert [len(batch) for batch in echo.batches] == [8, 8, 4]
    # One thread answers: a pipeline is for one at a time.
    assert len(set(echo.threads)) == 1 and threading.get_ident() not in echo.threads


def test_a_backlog_is_answered_together_without_waiting() -> None:
    echo = Echo()

    async def use(batcher: Batcher) -> Any:
        return await asyncio.gather(*(batcher.ask(asked(f"{i}")) for i in range(16)))

    run(echo, use, seconds=0.0)
    assert [len(batch) for batch in echo.batches] == [8, 8]


def test_one_alone_does_not_wait() -> None:
    async def use(batcher: Batcher) -> None:
        await asyncio.wait_for(batcher.ask(asked("a")), 30)

    run(Echo(), use, seconds=1e6)


def test_after_several_it_waits_for_as_many() -> None:
    echo = Echo()

    async def use(batcher: Batcher) -> None:
        await asyncio.gather(*(batcher.ask(asked(f"{i}")) for i in range(3)))
        first = asyncio.create_task(batcher.ask(asked("a")))
        await asyncio.sleep(0.05)
        assert len(echo.batches) == 1
        await asyncio.gather(first, *(batcher.ask(asked(text)) for text in "bc"))
        # But not for ever.
        begin = time.perf_counter()
        await batcher.ask(asked("alone"))
        assert time.perf_counter() - begin >= 0.5

    run(echo, use, seconds=0.5)
    assert echo.batches == [["0", "1", "2"], ["a", "b", "c"], ["alone"]]


def test_a_large_request_is_answered_in_parts_and_others_come_between() -> None:
    echo = Echo()

    async def use(batcher: Batcher) -> Any:
        large, small = batcher.ask(asked(*"abcdefghijklmnopqrst")), batcher.ask(asked("small"))
        return await asyncio.gather(large, small)

    large, small = run(echo, use)
    assert [answer["text"] for answer in large] == list("abcdefghijklmnopqrst") and small == [{"text": "small"}]
    assert echo.batches == [[*"abcdefgh"], ["small", *"ijklmno"], [*"pqrst"]]


def test_what_is_read_together_has_so_many_characters() -> None:
    echo = Echo()

    async def use(batcher: Batcher) -> Any:
        texts = [["a" * 6, "b" * 4], ["c" * 30, "d"], ["e" * 9]]
        return await asyncio.gather(*(batcher.ask(asked(*part)) for part in texts))

    found = run(echo, use, max_characters=10)
    assert [[len(answer["text"]) for answer in answers] for answers in found] == [[6, 4], [30, 1], [9]]
    assert [[len(text) for text in batch] for batch in echo.batches] == [[6, 4], [30], [9, 1]]


def test_after_an_error_those_who_gave_up_are_not_answered() -> None:
    echo = Echo(seconds=0.2)

    async def use(batcher: Batcher) -> None:
        tasks = [asyncio.create_task(batcher.ask(asked(text))) for text in ("bad", "gone", "stays")]
        await asyncio.sleep(0.1)
        tasks[1].cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    run(echo, use)
    assert echo.batches == [["bad", "gone", "stays"], ["bad"], ["stays"]]


def test_it_ends_when_it_is_told_to_whatever_comes() -> None:
    async def use(n_turns: int) -> None:
        batcher = Batcher(Echo(), seconds=10, max_batch=8, max_characters=100, max_waiting=10)
        batcher._n_together = 2
        task = asyncio.create_task(batcher.run())
        asker = asyncio.create_task(batcher.ask(asked("a")))
        await asyncio.sleep(0.01)
        others = asyncio.create_task(batcher.ask(asked("b")))
        for _ in range(n_turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait({task}, timeout=30)
        assert task.cancelled()
        asker.cancel()
        others.cancel()

    for n_turns in range(8):
        asyncio.run(use(n_turns))


def test_who_gives_up_in_the_middle_is_not_answered_to_the_end() -> None:
    echo = Echo(seconds=0.2)

    async def use(batcher: Batcher) -> None:
        large = asyncio.create_task(batcher.ask(asked(*"abcdef")))
        await asyncio.sleep(0.1)
        large.cancel()
        await batcher.ask(asked("next"))

    run(echo, use, max_batch=2)
    assert echo.batches == [["a", "b"], ["next"]]


def test_after_an_error_the_rest_of_a_request_is_not_read() -> None:
    echo = Echo()

    async def use(batcher: Batcher) -> None:
        with pytest.raises(RuntimeError):
            await batcher.ask(asked("bad", "b", "c", "d"))
        await batcher.ask(asked("next"))

    run(echo, use, max_batch=2)
    assert echo.batches == [["bad", "b"], ["next"]]


def test_a_text_that_fails_spoils_only_its_own_answers() -> None:
    async def use(batcher: Batcher) -> Any:
        return await asyncio.gather(
            *(batcher.ask(asked(text)) for text in ("a", "bad", "b")), return_exceptions=True
        )

    first, failed, last = run(Echo(), use)
    assert (first, last) == ([{"text": "a"}], [{"text": "b"}])
    assert isinstance(failed, RuntimeError)


def test_more_than_may_wait_is_refused_and_room_comes_back() -> None:
    async def use(batcher: Batcher) -> Any:
        tasks = [asyncio.create_task(batcher.ask(asked("a", "b"))) for _ in range(2)]
        await asyncio.sleep(0)
        with pytest.raises(QueueFull):
            await batcher.ask(asked("c"))
        await asyncio.gather(*tasks)
        assert batcher.n_waiting == 0
        return await batcher.ask(asked("c"))

    assert run(Echo(), use, max_waiting=4) == [{"text": "c"}]


def test_who_gives_up_is_not_answered_and_does_not_stop_the_others() -> None:
    echo = Echo(seconds=0.2)

    async def use(batcher: Batcher) -> Any:
        slow = asyncio.create_task(batcher.ask(asked("slow")))
        await asyncio.sleep(0.05)
        gone = asyncio.create_task(batcher.ask(asked("gone")))
        stays = asyncio.create_task(batcher.ask(asked("stays")))
        await asyncio.sleep(0.05)
        gone.cancel()
        await slow
        assert await stays == [{"text": "stays"}]
        return batcher.n_waiting

    assert run(echo, use, seconds=0.0) == 0
    assert "gone" not in [text for batch in echo.batches for text in batch]
