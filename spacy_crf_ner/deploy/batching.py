"""Questions that arrive together are answered together, and each asker gets its own answers."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Callable, List, NamedTuple, Optional, Sequence

from spacy_crf_ner.deploy.answers import Answer, Question


class QueueFull(Exception):
    """More is waiting than may wait."""


class _Waiting(NamedTuple):
    questions: Sequence[Question]
    answers: "asyncio.Future[List[Answer]]"


class Batcher:
    """A queue in front of an `Answerer`, which runs in a thread of its own.

    answer (Callable[[Sequence[Question]], List[Answer]]): Answers some questions.
    seconds (float): How long the first one waits for others.
    max_batch (int): Questions that are answered together; those of one asker stay together.
    max_waiting (int): Questions that may wait.
    observe (Optional[Callable[[int], object]]): Called with the size of each batch.
    """

    def __init__(
        self,
        answer: Callable[[Sequence[Question]], List[Answer]],
        *,
        seconds: float,
        max_batch: int,
        max_waiting: int,
        observe: Optional[Callable[[int], object]] = None,
    ) -> None:
        self._answer = answer
        self._seconds = seconds
        self._max_batch = max_batch
        self._max_waiting = max_waiting
        self._observe = observe
        self._queue: asyncio.Queue[_Waiting] = asyncio.Queue()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="answers")
        self.n_waiting = 0
        """Questions that have no answer yet."""

    async def ask(self, questions: Sequence[Question]) -> List[Answer]:
        """Ask, and wait for the answers.

        questions (Sequence[Question]): The questions of one asker.
        RETURNS (List[Answer]): The answers.
        RAISES (QueueFull): Too many are waiting.
        """
        if self.n_waiting and self.n_waiting + len(questions) > self._max_waiting:
            raise QueueFull
        waiting = _Waiting(questions, asyncio.get_running_loop().create_future())
        self.n_waiting += len(questions)
        try:
            self._queue.put_nowait(waiting)
            return await waiting.answers
        finally:
            self.n_waiting -= len(questions)

    async def run(self) -> None:
        """Answer until cancelled."""
        try:
            while True:
                batch = await self._next_batch()
                await self._answer_batch(batch)
        finally:
            self._thread.shutdown(wait=True, cancel_futures=True)

    async def _next_batch(self) -> List[_Waiting]:
        loop = asyncio.get_running_loop()
        batch = [await self._queue.get()]
        n_questions = len(batch[0].questions)
        deadline = loop.time() + self._seconds
        while n_questions < self._max_batch:
            try:
                # What is there already has waited.
                waiting = self._queue.get_nowait()
            except asyncio.QueueEmpty:
                try:
                    waiting = await asyncio.wait_for(self._queue.get(), deadline - loop.time())
                except asyncio.TimeoutError:
                    break
            batch.append(waiting)
            n_questions += len(waiting.questions)
        # Whoever gave up waiting is not answered.
        return [waiting for waiting in batch if not waiting.answers.done()]

    async def _answer_batch(self, batch: List[_Waiting]) -> None:
        questions = [question for waiting in batch for question in waiting.questions]
        if not questions:
            return
        if self._observe is not None:
            self._observe(len(questions))
        try:
            answers = iter(await self._in_thread(questions))
        except Exception as error:  # of any pipe
            await self._answer_apart(batch, error)
            return
        for waiting in batch:
            _give(waiting, [next(answers) for _ in waiting.questions])

    async def _answer_apart(self, batch: List[_Waiting], error: Exception) -> None:
        """One text must not spoil the others' answers."""
        for waiting in batch:
            if len(batch) > 1:
                try:
                    _give(waiting, await self._in_thread(waiting.questions))
                    continue
                except Exception as own:
                    error = own
            if not waiting.answers.done():
                waiting.answers.set_exception(error)

    async def _in_thread(self, questions: Sequence[Question]) -> List[Answer]:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._answer, questions)


def _give(waiting: _Waiting, answers: List[Answer]) -> None:
    # Whoever gave up in the meantime has cancelled it.
    with suppress(asyncio.InvalidStateError):
        waiting.answers.set_result(answers)
