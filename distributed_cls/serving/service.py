"""What a request for an answer goes through: a place in line, decoding, the model; within one time limit."""

import asyncio
import os
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np

from distributed_cls.config.inference_sections import ServeConfig
from distributed_cls.predictor.heat_map import HeatMap
from distributed_cls.predictor.image_input import BadImageError, colour_map, encode_png, prepare
from distributed_cls.predictor.likeliest import Answer
from distributed_cls.serving.batching import Admission, Batcher, OverloadedError
from distributed_cls.serving.prometheus import Metrics
from distributed_cls.serving.requests import Picture
from distributed_cls.serving.versions import Loaded, Versions

T = TypeVar("T")


class Service:
    """The model behind the routes. Create it on the event loop that it serves."""

    def __init__(self, settings: ServeConfig, versions: Versions, metrics: Metrics) -> None:
        self.settings = settings
        self.versions = versions
        self.metrics = metrics
        self.ready = True
        self.batcher = Batcher(
            max_batch=settings.max_batch, max_wait=settings.max_wait, limit=settings.queue, on_batch=metrics.on_batch
        )
        self._decoders = ThreadPoolExecutor(os.cpu_count() or 2, thread_name_prefix="decode")
        self._explainer = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Begin to answer and to look for new versions."""
        self._tasks = [
            asyncio.create_task(self.batcher.run()),
            asyncio.create_task(self.versions.watch(self.settings.reload)),
        ]

    async def stop(self) -> None:
        """End the background work; the server has finished its requests by now."""
        self.ready = False
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._decoders.shutdown(wait=False, cancel_futures=True)
        self._explainer.shutdown(wait=False, cancel_futures=True)

    async def classify(self, loaded: Loaded, pictures: list[Picture]) -> list[Answer | BadImageError]:
        """For each picture the model's answer, or why it is none.

        Raises OverloadedError when too much is waiting, or the answer is late.
        """
        with self.batcher.admit(len(pictures)) as admission:
            self.metrics.waiting.set(self.batcher.admitted)
            answers = await self._in_time(
                asyncio.gather(*(self._classify_one(loaded, admission, picture) for picture in pictures))
            )
        self.metrics.waiting.set(self.batcher.admitted)
        bad = sum(isinstance(answer, BadImageError) for answer in answers)
        self.metrics.images.labels("classified").inc(len(answers) - bad)
        self.metrics.images.labels("unreadable").inc(bad)
        return answers

    async def _classify_one(self, loaded: Loaded, admission: Admission, picture: Picture) -> Answer | BadImageError:
        loop = asyncio.get_running_loop()
        try:
            pixels = await loop.run_in_executor(self._decoders, prepare, picture.data, loaded.export)
        except BadImageError as bad:
            self.batcher.reject(admission)
            return bad
        return await self.batcher.classify(admission, loaded.classifier, pixels)

    async def explain(self, loaded: Loaded, picture: Picture, label: str | None) -> bytes:
        """A PNG (RGBA, the prepared image's edge) of where the model found ``label``, or its likeliest class.

        Raises BadImageError, and OverloadedError when too much is waiting or the answer is late.
        """
        with self.batcher.admit(1) as admission:
            # No image of this admission goes to the batcher; nobody need wait for it there.
            self.batcher.reject(admission)
            work = asyncio.get_running_loop().run_in_executor(self._explainer, _explain, loaded, picture.data, label)
            return await self._in_time(work)

    async def _in_time(self, work: Awaitable[T]) -> T:
        try:
            return await asyncio.wait_for(work, self.settings.timeout)
        except asyncio.TimeoutError:
            raise OverloadedError(5) from None


def _explain(loaded: Loaded, data: bytes, label: str | None) -> bytes:
    pixels = prepare(data, loaded.export)
    heat_map: HeatMap = loaded.heat_map()
    if label is None:
        index = int(np.argmax(loaded.classifier.answers(pixels[None])[0].probabilities))
    else:
        index = loaded.export.classes.index(label)
    return encode_png(colour_map(heat_map(pixels, index), loaded.export.image_size))
