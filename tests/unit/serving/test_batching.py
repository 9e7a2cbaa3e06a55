"""The batcher with a model of its own making: what is put together, who waits, who is turned away."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest

from distributed_cls.predictor.likeliest import Answer
from distributed_cls.serving.batching import Batcher, OverloadedError


class FakeModel:
    """Answers each image with its first pixel; notes the batches; can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.free = threading.Event()
        self.free.set()

    def answers(self, images: np.ndarray) -> list[Answer]:
        assert self.free.wait(10)
        self.batches.append([int(image[0]) for image in images])
        if 99 in self.batches[-1]:
            raise RuntimeError("unlucky")
        return [Answer(image[:1].astype(np.float32), 0.0) for image in images]


def image(value: int) -> np.ndarray:
    return np.array([value, 0], np.uint8)


def with_batcher(story: Callable[[Batcher], Coroutine[Any, Any, None]], **settings: Any) -> None:
    """Run ``story`` beside a running batcher, at most ten seconds."""

    async def run() -> None:
        batcher = Batcher(**{"max_batch": 4, "max_wait": 0.05, "limit": 16, **settings})
        task = asyncio.create_task(batcher.run())
        try:
            await asyncio.wait_for(story(batcher), 10)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


async def one(batcher: Batcher, model: FakeModel, value: int) -> float:
    with batcher.admit(1) as admission:
        return float((await batcher.classify(admission, model, image(value))).confidence)


def test_a_lone_request_does_not_wait() -> None:
    async def story(batcher: Batcher) -> None:
        loop = asyncio.get_running_loop()
        started = loop.time()
        assert await one(batcher, FakeModel(), 7) == 7
        assert loop.time() - started < 5

    with_batcher(story, max_wait=60)


def test_requests_together_become_full_batches_with_the_right_answers() -> None:
    async def story(batcher: Batcher) -> None:
        model = FakeModel()
        answers = await asyncio.gather(*(one(batcher, model, value) for value in range(10)))
        assert answers == list(range(10))
        assert max(len(batch) for batch in model.batches) == 4
        assert len(model.batches) <= 4
        assert batcher.admitted == 0

    with_batcher(story)


def test_it_waits_for_images_on_their_way_but_not_for_ever() -> None:
    async def story(batcher: Batcher) -> None:
        model = FakeModel()
        with batcher.admit(2) as admission:
            first = asyncio.create_task(batcher.classify(admission, model, image(1)))
            await asyncio.sleep(0)
            second = asyncio.create_task(batcher.classify(admission, model, image(2)))
            await asyncio.gather(first, second)
        assert model.batches == [[1, 2]]
        with batcher.admit(2) as admission:  # the other image never comes
            await batcher.classify(admission, model, image(3))
        assert model.batches[-1] == [3]
        with batcher.admit(2) as admission:  # the other turns out to be none
            batcher.reject(admission)
            await batcher.classify(admission, model, image(4))

    with_batcher(story, max_wait=0.2)


def test_beyond_the_limit_callers_are_told_when_to_come_back() -> None:
    async def story(batcher: Batcher) -> None:
        model = FakeModel()
        model.free.clear()
        waiting = [asyncio.create_task(one(batcher, model, value)) for value in range(16)]
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as refusal, batcher.admit(1):
            pass
        assert 1 <= refusal.value.retry_after <= 60
        model.free.set()
        await asyncio.gather(*waiting)
        with batcher.admit(16):
            assert batcher.admitted == 16
        assert batcher.admitted == 0

    with_batcher(story)


def test_a_batch_holds_images_of_one_model_only() -> None:
    async def story(batcher: Batcher) -> None:
        old, new = FakeModel(), FakeModel()
        await asyncio.gather(*(one(batcher, model, value) for value, model in enumerate([old, old, new, new])))
        assert [value for batch in old.batches for value in batch] == [0, 1]
        assert [value for batch in new.batches for value in batch] == [2, 3]

    with_batcher(story)


def test_a_failure_belongs_to_its_batch_and_the_next_is_answered() -> None:
    async def story(batcher: Batcher) -> None:
        model = FakeModel()
        with pytest.raises(RuntimeError, match="unlucky"):
            await one(batcher, model, 99)
        assert await one(batcher, model, 5) == 5

    with_batcher(story)


def test_who_gave_up_is_not_computed() -> None:
    async def story(batcher: Batcher) -> None:
        model = FakeModel()
        model.free.clear()
        busy = asyncio.create_task(one(batcher, model, 1))
        await asyncio.sleep(0.05)
        left = asyncio.create_task(one(batcher, model, 2))
        await asyncio.sleep(0)
        left.cancel()
        stays = asyncio.create_task(one(batcher, model, 3))
        await asyncio.sleep(0)
        model.free.set()
        assert await asyncio.gather(busy, stays) == [1, 3]
        assert [2] not in model.batches
        assert batcher.admitted == 0

    with_batcher(story)
