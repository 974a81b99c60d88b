"""Questions that arrive together are answered together, and each asker gets its own answers."""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Callable, Deque, List, NamedTuple, Optional, Sequence

from spacy_crf_ner.deploy.answers import Answer, Question


class QueueFull(Exception):
    """More is waiting than may wait."""


class _Request:
    """What one asker asks, and as much of it as is answered."""

    def __init__(self, questions: Sequence[Question]) -> None:
        self.open = deque(questions)
        self.answers: List[Answer] = []
        self.done: asyncio.Future[List[Answer]] = asyncio.get_running_loop().create_future()

    def add(self, answers: List[Answer]) -> None:
        self.answers += answers
        if not self.open:
            # Whoever gave up in the meantime has cancelled it.
            with suppress(asyncio.InvalidStateError):
                self.done.set_result(self.answers)


class _Part(NamedTuple):
    """Some questions of a request."""

    request: _Request
    questions: List[Question]


class Batcher:
    """A queue in front of an `Answerer`, which runs in a thread of its own.

    Whoever comes while nothing is computed is answered at once, unless others came together just before: then it
    waits until as many are there again, but not for long. A request that is too large for a batch is answered in
    parts, and others come in between.

    answer (Callable[[Sequence[Question]], List[Answer]]): Answers some questions.
    seconds (float): How long the first of a batch waits for others at most.
    max_batch (int): Questions that are answered together.
    max_characters (int): Characters that are read together; a longer text is read alone.
    max_waiting (int): Questions that may wait.
    observe (Optional[Callable[[int], object]]): Called with the number of questions of each batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], List[Answer]],
        *,
        seconds: float,
        max_batch: int,
        max_characters: int,
        max_waiting: int,
        observe: Optional[Callable[[int], object]] = None,
    ) -> None:
        self._answer = answer
        self._seconds = seconds
        self._max_batch = max_batch
        self._max_characters = max_characters
        self._max_waiting = max_waiting
        self._observe = observe
        self._requests: Deque[_Request] = deque()
        self._arrival = asyncio.Event()
        self._n_together = 1
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self.n_waiting = 0
        """Questions whose askers still wait."""

    async def ask(self, questions: Sequence[Question]) -> List[Answer]:
        """Ask, and wait for the answers.

        questions (Sequence[Question]): The questions of one asker, at least one.
        RETURNS (List[Answer]): The answers.
        RAISES (QueueFull): Too many are waiting.
        """
        if self.n_waiting + len(questions) > self._max_waiting:
            raise QueueFull
        request = _Request(questions)
        self._requests.append(request)
        self._arrival.set()
        self.n_waiting += len(questions)
        try:
            return await request.done
        finally:
            self.n_waiting -= len(questions)
            # Who gave up leaves nothing behind.
            with suppress(ValueError):
                self._requests.remove(request)

    async def run(self) -> None:
        """Answer until cancelled."""
        try:
            while True:
                await self._gather()
                batch = self._take()
                if batch:
                    await self._answer_batch(batch)
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)

    async def _gather(self) -> None:
        """Wait for a request, and then for as many as the last batch had."""
        while not self._requests:
            await self._next_arrival()
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._seconds
        while len(self._requests) < self._n_together and loop.time() < deadline:
            await self._next_arrival(deadline - loop.time())

    async def _next_arrival(self, seconds: Optional[float] = None) -> None:
        # Not by `wait_for`, which may swallow a cancellation.
        self._arrival.clear()
        arrival = asyncio.ensure_future(self._arrival.wait())
        try:
            await asyncio.wait({arrival}, timeout=seconds)
        finally:
            arrival.cancel()

    def _take(self) -> List[_Part]:
        """The next batch. Of whom a part is left, it comes last in the next one."""
        batch: List[_Part] = []
        n_questions = n_characters = 0
        for _ in range(len(self._requests)):
            request = self._requests[0]
            if request.done.done():
                # Its asker has given up, or an error of an earlier part.
                self._requests.popleft()
                continue
            questions: List[Question] = []
            while request.open and n_questions < self._max_batch:
                n_characters += len(request.open[0].text)
                if n_questions and n_characters > self._max_characters:
                    break
                questions.append(request.open.popleft())
                n_questions += 1
            if questions:
                batch.append(_Part(request, questions))
            if not request.open:
                self._requests.popleft()
                continue
            if questions:
                self._requests.rotate(-1)
            break
        self._n_together = len(batch)
        return batch

    async def _answer_batch(self, batch: List[_Part]) -> None:
        questions = [question for part in batch for question in part.questions]
        if self._observe is not None:
            self._observe(len(questions))
        try:
            answers = iter(await self._in_thread(questions))
        except Exception as error:  # of any pipe
            await self._answer_apart(batch, error)
            return
        for part in batch:
            part.request.add([next(answers) for _ in part.questions])

    async def _answer_apart(self, batch: List[_Part], error: Exception) -> None:
        """One text must not spoil the others' answers."""
        for part in batch:
            if part.request.done.done():
                continue
            if len(batch) > 1:
                try:
                    part.request.add(await self._in_thread(part.questions))
                    continue
                except Exception as own:
                    error = own
            with suppress(asyncio.InvalidStateError):
                part.request.done.set_exception(error)

    async def _in_thread(self, questions: Sequence[Question]) -> List[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, questions)
