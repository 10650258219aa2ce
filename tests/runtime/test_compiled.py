"""Compiled once, and never again for an adapter's sake."""

from __future__ import annotations

import asyncio
import threading

import pytest
import torch

from hub.errors import Conflict, Incompatible, Unsupported
from tests.runtime import support
from tests.runtime.support import in_thread, load_model, logits, relative_error, write_adapter
from tests.support.threads import run_async

TARGETS = support.targets_of("llama")
ROWS = torch.tensor([[5, 17, 3, 88], [9, 1, 30, 12], [44, 2, 8, 61]])


@pytest.fixture
def folders(bases, tmp_path):
    return [
        write_adapter(bases("llama"), tmp_path / f"a{i}", seed=i, r=rank, lora_alpha=i + 1, target_modules=TARGETS)
        for i, rank in enumerate([4, 2, 3])
    ]


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_switching_adding_removing_and_mixing_recompile_nothing(quantize, bases, folders):
    base = bases("llama")
    eager = load_model(base, *folders, quantize=quantize)
    model = load_model(base, *folders[:2], quantize=quantize, slots=3)
    model.compile(backend="eager")
    logits(model, ROWS)  # compiles
    compiled = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert compiled > 0

    def agrees(adapters):
        with model.using(adapters), eager.using(adapters), torch.compiler.set_stance("fail_on_recompile"):
            return relative_error(logits(model, ROWS), logits(eager, ROWS)) <= 1e-5

    assert agrees(folders[0])
    assert agrees(folders[1])
    assert agrees(None)
    model.add(folders[2])
    assert agrees(folders[2])
    assert agrees([folders[2], None, folders[0]])
    model.use(folders[1])
    model.remove(folders[0])
    assert agrees([folders[1], folders[2], None])
    model.add(folders[0])
    assert agrees(folders[0])
    assert agrees([folders[0], folders[1], folders[2]])
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == compiled


def test_the_counter_of_that_test_counts(bases, folders):
    """A batch of another shape does recompile: the check above would see it."""
    model = load_model(bases("llama"), folders[0])
    model.compile(backend="eager", dynamic=False)
    logits(model, ROWS)
    with torch.compiler.set_stance("fail_on_recompile"), pytest.raises(RuntimeError, match="recompile"):
        logits(model, ROWS[:, :3])


def test_what_use_chose_is_what_compiled_code_computes(bases, folders):
    eager = load_model(bases("llama"), *folders)
    model = load_model(bases("llama"), *folders)
    model.compile(backend="eager")
    for folder in [*folders, None]:
        model.use(folder)
        eager.use(folder)
        assert relative_error(logits(model, ROWS), logits(eager, ROWS)) <= 1e-5


@pytest.fixture
def compiled(bases, folders):
    """A compiled model whose first adapter is active, and what the base's own forward pass should say with any."""
    eager = load_model(bases("llama"), *folders)
    expected = {folder: logits(eager, ROWS, adapters=folder) for folder in folders}
    model = load_model(bases("llama"), *folders)
    model.compile(backend="eager")

    def says(folder):
        return relative_error(logits(model.base, ROWS), expected[folder]) <= 1e-5

    return model, says


def test_a_use_while_a_call_runs_is_for_what_follows_it(compiled, folders):
    model, says = compiled
    with model.using(folders[1]):
        assert in_thread(lambda: model.use(folders[2])) is None
        model.generate(input_ids=ROWS[:1], adapters=folders[0], max_new_tokens=1, pad_token_id=0)
        assert says(folders[1])
    assert says(folders[2])


def test_a_use_just_when_a_call_has_ended_is_for_what_follows_it(compiled, folders):
    """The call has chosen what is active for those after it, and hasn't let the next one have its turn."""
    model, says = compiled
    bank = model._library.slots.bank

    class Turn:
        acquire, release = bank.lock.acquire, bank.lock.release

        def __enter__(self):
            self.acquire()

        def __exit__(self, *error):
            assert in_thread(lambda: model.use(folders[2])) is None
            self.release()

    bank.lock = Turn()
    logits(model, ROWS)
    assert says(folders[2])


def test_an_adapter_can_t_leave_while_a_call_that_ends_goes_back_to_it(compiled, folders, monkeypatch):
    model, says = compiled
    slots = model._library.slots
    select = slots.bank.select

    def switch_and_remove():
        if slots.lock.acquire(blocking=False):  # else it would have to wait, which is what is wanted
            slots.lock.release()
            model.use(folders[2])
            model.remove(folders[0])

    def overtaken(choice, *batch):
        if choice.label == str(folders[0]):
            in_thread(switch_and_remove)
        select(choice, *batch)

    monkeypatch.setattr(slots.bank, "select", overtaken)
    logits(model, ROWS, adapters=folders[1])
    assert says(folders[0])
    switch_and_remove()
    assert says(folders[2])


def test_a_weighted_sum_that_is_refused_changes_nothing(compiled, folders):
    model, says = compiled
    with pytest.raises(Unsupported, match="weighted sum has no slot"):
        model.use({folders[1]: 0.5})
    with model.using(folders[1]), pytest.raises(Unsupported, match="weighted sum has no slot"):
        model.use({folders[1]: 0.5})
    assert model.active == str(folders[0])
    assert says(folders[0])
    model.remove(folders[1])


def test_beams_of_a_mixed_batch_keep_their_row_s_adapter(bases, folders):
    eager = load_model(bases("llama"), *folders)
    model = load_model(bases("llama"), *folders)
    model.compile(backend="eager")
    options = {"max_new_tokens": 4, "num_beams": 3, "do_sample": False, "pad_token_id": 0}
    rows = [folders[2], None, folders[0]]
    expected = eager.generate(input_ids=ROWS, adapters=rows, **options)
    assert torch.equal(model.generate(input_ids=ROWS, adapters=rows, **options), expected)


def test_tasks_in_one_thread_keep_their_own_adapters_in_compiled_code(bases, folders):
    eager = load_model(bases("llama"), *folders)
    model = load_model(bases("llama"), *folders)
    model.compile(backend="eager")
    logits(model, ROWS)

    async def run(folder):
        with model.using(folder):
            for _ in range(2):
                await asyncio.sleep(0)
                assert relative_error(logits(model, ROWS), expected[folder]) <= 1e-5

    async def both():
        await asyncio.gather(run(folders[1]), run(folders[2]))

    expected = {folder: logits(eager, ROWS, adapters=folder) for folder in folders}
    run_async(both())


@pytest.mark.slow
def test_generation_by_a_compiled_model_in_threads(bases, folders):
    eager = load_model(bases("llama"), *folders)
    model = load_model(bases("llama"), *folders)
    model.compile(backend="eager")
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    found: dict[int, torch.Tensor] = {}

    def run(number: int) -> None:
        found[number] = model.generate(input_ids=ROWS[:1], adapters=folders[number], **options)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, folder in enumerate(folders):
        assert torch.equal(found[number], eager.generate(input_ids=ROWS[:1], adapters=folder, **options))


@pytest.mark.slow
def test_the_default_compiler_agrees_with_eager(bases, folders):
    eager = load_model(bases("llama"), *folders)
    model = load_model(bases("llama"), *folders)
    model.compile()
    for choice in (folders[0], [folders[1], None, folders[2]]):
        with model.using(choice), eager.using(choice):
            assert relative_error(logits(model, ROWS), logits(eager, ROWS)) <= 1e-4


def test_what_fits_no_fixed_slot_is_refused_and_changes_nothing(bases, folders, tmp_path):
    base = bases("llama")
    model = load_model(base, folders[1], slots=4)
    model.compile(backend="eager")
    before = logits(model, ROWS)
    with pytest.raises(Incompatible, match=r"has rank 4, and compiled slots hold 2.*max_rank=4"):
        model.add(folders[0])
    head = write_adapter(base, tmp_path / "head", r=2, target_modules=["q_proj", "lm_head"])
    with pytest.raises(Incompatible, match=r"lm_head was adapted by none"):
        model.add(head)
    dora = write_adapter(base, tmp_path / "dora", r=2, target_modules=["q_proj"], use_dora=True)
    with pytest.raises(Unsupported, match=r"q_proj: a compiled model runs plain low-rank updates"):
        model.add(dora)
    with pytest.raises(Unsupported, match="weighted sum has no slot"), model.using({folders[1]: 0.5}):
        pass
    assert model.adapters == (str(folders[1]),)
    assert torch.equal(logits(model, ROWS), before)


def test_compiling_twice_or_merging_compiled_code_is_refused(bases, folders):
    model = load_model(bases("llama"))
    with pytest.raises(Conflict, match="No adapter is loaded"):
        model.compile(backend="eager")
    model.add(folders[0])
    model.compile(backend="eager")
    with pytest.raises(Conflict, match="compiled already"):
        model.compile(backend="eager")
    model.use(folders[0])
    with pytest.raises(Conflict, match="compiled for adapters in slots"):
        model.merge()
