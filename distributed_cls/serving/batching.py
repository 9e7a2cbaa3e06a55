"""Requests that arrive together are answered together: one call of the model for up to ``max_batch`` images."""

import asyncio
import contextlib
import math
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from distributed_cls.predictor.likeliest import Answer


class Model(Protocol):
    """What is batched for: uint8 [N, T, T, C] → an answer for each."""

    def answers(self, images: np.ndarray) -> list[Answer]: ...


class OverloadedError(Exception):
    """More images are waiting than the service may hold; try again in ``retry_after`` seconds."""

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"The service is busy. Try again in {retry_after} s.")
        self.retry_after = retry_after


@dataclass
class _Waiting:
    model: Model
    pixels: np.ndarray
    answer: asyncio.Future[Answer]


@dataclass
class Admission:
    """The places of one request's images: taken before they are decoded, given back when it ends."""

    images: int
    arriving: int = field(init=False)

    def __post_init__(self) -> None:
        self.arriving = self.images


class Batcher:
    """Gathers single images into batches. Lives on one event loop; the model runs in one thread of its own.

    A batch leaves as soon as the model is free, unless further images are known to be on their way (admitted, still
    being decoded): for those it waits at most ``max_wait`` seconds. A lone request therefore never waits.
    """

    def __init__(
        self, *, max_batch: int, max_wait: float, limit: int, on_batch: Callable[[int, float], None] = lambda *_: None
    ) -> None:
        self._max_batch = max_batch
        self._max_wait = max_wait
        self._limit = limit
        self._on_batch = on_batch
        self._queue: deque[_Waiting] = deque()
        self._changed = asyncio.Event()
        self._model_thread = ThreadPoolExecutor(1, thread_name_prefix="model")
        self._images_per_second = 10.0  # a first guess, replaced by what is measured
        self._arriving = 0
        self.admitted = 0

    @contextlib.contextmanager
    def admit(self, images: int) -> Iterator[Admission]:
        """Take places for ``images``. Raises OverloadedError when there are too few."""
        if self.admitted + images > self._limit:
            seconds = math.ceil(self.admitted / self._images_per_second)
            raise OverloadedError(min(max(seconds, 1), 60))
        admission = Admission(images)
        self.admitted += images
        self._arriving += images
        try:
            yield admission
        finally:
            self.admitted -= images
            self._arrived(admission, admission.arriving)

    def reject(self, admission: Admission) -> None:
        """One image of this request turned out to be none: nobody need wait for it."""
        self._arrived(admission, 1)

    async def classify(self, admission: Admission, model: Model, pixels: np.ndarray) -> Answer:
        """The answer for one image, uint8 [T, T, C]. Raises what the model raised."""
        waiting = _Waiting(model, pixels, asyncio.get_running_loop().create_future())
        self._queue.append(waiting)
        self._arrived(admission, 1)
        return await waiting.answer

    def _arrived(self, admission: Admission, images: int) -> None:
        admission.arriving -= images
        self._arriving -= images
        self._changed.set()

    async def run(self) -> None:
        """Answer batches until cancelled."""
        try:
            while True:
                batch = await self._next_batch()
                if batch:
                    await self._answer(batch)
        finally:
            self._model_thread.shutdown(wait=False, cancel_futures=True)

    async def _next_batch(self) -> list[_Waiting]:
        loop = asyncio.get_running_loop()
        while not self._queue:
            self._changed.clear()
            await self._changed.wait()
        deadline = loop.time() + self._max_wait
        while len(self._queue) < self._max_batch and self._arriving > 0 and loop.time() < deadline:
            self._changed.clear()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), deadline - loop.time())
        # One batch, one model: while a new version takes over, images prepared for the old one are still in line.
        model = self._queue[0].model
        batch: list[_Waiting] = []
        while self._queue and len(batch) < self._max_batch and self._queue[0].model is model:
            waiting = self._queue.popleft()
            if not waiting.answer.cancelled():
                batch.append(waiting)
        return batch

    async def _answer(self, batch: list[_Waiting]) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        images = np.stack([waiting.pixels for waiting in batch])
        try:
            answers = await loop.run_in_executor(self._model_thread, batch[0].model.answers, images)
        except Exception as error:
            # Whatever went wrong belongs to these requests, and must not end the loop that serves all others.
            for waiting in batch:
                if not waiting.answer.done():
                    waiting.answer.set_exception(error)
            return
        seconds = max(loop.time() - started, 1e-6)
        self._images_per_second = 0.8 * self._images_per_second + 0.2 * len(batch) / seconds
        self._on_batch(len(batch), seconds)
        for waiting, answer in zip(batch, answers, strict=True):
            if not waiting.answer.done():
                waiting.answer.set_result(answer)
