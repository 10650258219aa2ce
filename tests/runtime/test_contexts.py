"""`using` holds for the code that its block is in: a thread, a task, a generator, and nothing else."""

from __future__ import annotations

import asyncio
import gc
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

import pytest
import torch

from hub.errors import Conflict, InvalidRequest
from tests.runtime.support import load_model, logits, write_adapter
from tests.support.threads import run_async


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory):
    root = tmp_path_factory.mktemp("adapters")
    return [write_adapter(base, root / f"a{i}", seed=i, r=2, target_modules=["q_proj", "v_proj"]) for i in range(3)]


@pytest.fixture
def model(base, folders):
    return load_model(base, *folders)


@pytest.fixture
def says(model, folders):
    """Return which folder's adapter the model computes: by its answer, not by what it says is active."""
    expected = [(folder, logits(model, adapters=folder)) for folder in folders]

    def which():
        here = logits(model)
        assert torch.equal(here, logits(model.base)), "the base itself says something else"
        return next(folder for folder, answer in expected if torch.equal(answer, here))

    return which


def test_tasks_that_take_turns_compute_their_own_adapters(model, folders, says):
    async def run(folder):
        seen = []
        with model.using(folder):
            for _ in range(3):
                await asyncio.sleep(0)
                seen.append(says())
        return seen

    async def together():
        return await asyncio.gather(run(folders[1]), run(folders[2]))

    assert run_async(together()) == [[folders[1]] * 3, [folders[2]] * 3]
    assert says() == folders[0]


def test_a_task_or_thread_that_asyncio_starts_in_a_block_has_its_choice(model, folders, says):
    async def inside():
        with model.using(folders[1]):
            task = asyncio.create_task(asyncio.to_thread(says))
            await asyncio.sleep(0)
        return await task, says()

    assert run_async(inside()) == (folders[1], folders[0])


def test_an_executor_s_thread_has_the_shared_choice(model, folders, says):
    with ThreadPoolExecutor(1) as pool, model.using(folders[1]):
        assert pool.submit(says).result() == folders[0]
        assert says() == folders[1]


def answers(model, folder, says):
    with model.using(folder):
        while True:
            yield says()


def test_generators_that_take_turns_compute_their_own_adapters(model, folders, says):
    first, second = answers(model, folders[1], says), answers(model, folders[2], says)
    for _ in range(3):
        assert (next(first), next(second)) == (folders[1], folders[2])
    with model.using(folders[0]):  # a block around a generator that began before it
        assert (next(first), says(), next(second)) == (folders[1], folders[0], folders[2])
    first.close()  # in the order in which they began, which is not that of blocks
    assert next(second) == folders[2]
    second.close()
    assert says() == folders[0]


def test_a_generator_s_choice_never_leaves_it(model, folders, says):
    waiting = answers(model, folders[1], says)
    next(waiting)
    with pytest.raises(Conflict, match=r"A generator that waits holds model\.using.*adapters="):
        model(input_ids=torch.tensor([[1]]))
    with pytest.raises(Conflict, match="A generator that waits"):
        model.base(input_ids=torch.tensor([[1]]))
    with model.using(folders[2]):
        assert says() == folders[2]
    logits(model, adapters=folders[2])
    del waiting
    gc.collect()
    assert says() == folders[0]


def test_a_call_between_a_generator_s_steps_inside_a_block_is_unclear(model, folders, says):
    with model.using(folders[2]):
        waiting = answers(model, folders[1], says)
        assert next(waiting) == folders[1]
        with pytest.raises(Conflict, match="A generator that waits"):
            says()
        waiting.close()
        assert says() == folders[2]


def test_async_generators_compute_their_own_adapters(model, folders, says):
    async def stream(folder):
        with model.using(folder):
            for _ in range(2):
                await asyncio.sleep(0)
                yield says()

    async def together():
        first, second = stream(folders[1]), stream(folders[2])
        seen = [(await anext(first), await anext(second)) for _ in range(2)]
        await first.aclose()
        await second.aclose()
        return seen, says()

    assert run_async(together()) == ([(folders[1], folders[2])] * 2, folders[0])


def test_a_context_manager_around_using_holds_for_its_block(model, folders, says):
    @contextmanager
    def helper(folder):
        with model.using(folder):
            yield

    @model.using(folders[1])
    def decorated():
        return says()

    def generator():
        with helper(folders[2]):
            yield says()

    with helper(folders[1]), helper(folders[2]):
        assert says() == folders[2]
    with ExitStack() as stack:
        stack.enter_context(helper(folders[1]))
        assert says() == folders[1]
    assert decorated() == folders[1]
    assert list(generator()) == [folders[2]]
    assert says() == folders[0]


def test_blocks_that_end_out_of_order_leave_nothing_behind(model, folders, says):
    first, second = model.using(folders[1]), model.using(folders[2])
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert says() == folders[2]
    second.__exit__(None, None, None)
    assert says() == folders[0]


def generator():
    yield


async def coroutine():
    pass


async def async_generator():
    yield


@pytest.mark.parametrize("function", [generator, coroutine, async_generator])
def test_what_runs_after_its_call_can_not_be_decorated(model, folders, function):
    """Python would end the block before the body runs, and the body would compute another choice."""
    with pytest.raises(InvalidRequest, match="Write `with"):
        model.using(folders[0])(function)
