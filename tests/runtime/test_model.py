"""Adding, choosing, removing: what a model with several adapters says, and what it refuses."""

from __future__ import annotations

import logging
import threading
import weakref
from pathlib import Path

import peft
import pytest
import torch
import transformers

from hub.errors import AdapterNotFound, Conflict, InvalidRequest, Unavailable, Unsupported
from hub.runtime import load
from tests.runtime import support
from tests.runtime.support import load_model, logits, relative_error, write_adapter

TARGETS = support.targets_of("llama")
GENERATE = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
ROWS = torch.tensor([[5, 17, 3, 88], [9, 1, 30, 12], [44, 2, 8, 61], [70, 7, 7, 19]])


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory) -> list[Path]:
    """Four adapters of different ranks and scalings."""
    root = tmp_path_factory.mktemp("adapters")
    return [
        write_adapter(base, root / f"a{i}", seed=i, r=rank, lora_alpha=2 * i + 1, target_modules=targets)
        for i, (rank, targets) in enumerate([(4, TARGETS), (2, TARGETS), (8, ["q_proj", "v_proj"]), (3, ["down_proj"])])
    ]


@pytest.fixture
def model(base, folders):
    return load_model(base, *folders)


def test_the_first_ref_is_active_and_use_switches(model, folders, base):
    assert model.active == str(folders[0])
    assert model.adapters == tuple(str(folder) for folder in [*folders[1:], folders[0]])
    for folder in folders:
        model.use(folder)
        assert model.active == str(folder)
        assert relative_error(logits(model), support.peft_logits(base, folder)) <= 1e-5
    model.use(None)
    assert model.active is None
    assert torch.equal(logits(model), logits(support.open_base(base)))


def test_using_is_for_a_block_and_for_its_thread_only(model, folders):
    seen = []
    with model.using(folders[1]):
        inside = model.active
        other = threading.Thread(target=lambda: seen.append(model.active))
        other.start()
        other.join()
    assert (inside, seen, model.active) == (str(folders[1]), [str(folders[0])], str(folders[0]))


def test_a_weighted_sum_is_the_sum_of_the_weighted_updates(base, folders, tmp_path):
    model = load_model(base, *folders[:2])
    model.use({folders[0]: 0.7, folders[1]: -0.4})
    oracle = peft.PeftModel.from_pretrained(support.open_base(base), folders[0], adapter_name="a").eval()
    oracle.load_adapter(folders[1], adapter_name="b")
    with torch.no_grad():
        for module in oracle.modules():
            if isinstance(module, peft.tuners.lora.Linear):
                for name, weight in (("a", 0.7), ("b", -0.4)):
                    module.get_base_layer().weight += weight * module.get_delta_weight(name)
        with oracle.disable_adapter():
            expected = oracle(input_ids=support.TOKENS).logits
    assert relative_error(logits(model), expected) <= 1e-5
    assert model.active == {str(folders[0]): 0.7, str(folders[1]): -0.4}


def test_a_low_rank_sum_is_the_best_approximation_of_that_rank(base, folders):
    model = load_model(base, *folders[:2])
    model.use({folders[0]: 1.0, folders[1]: 1.0})
    exact = model._selection.shared.updates
    model.use({folders[0]: 1.0, folders[1]: 1.0}, rank=3)
    for index, update in model._selection.shared.updates.items():
        a, b = exact[index].factors()
        ours_a, ours_b = update.factors()
        assert ours_a.shape[0] == 3
        u, s, v = torch.linalg.svd((b @ a).double())
        best = u[:, :3] * s[:3] @ v[:3]
        assert torch.allclose((ours_b @ ours_a).double(), best, atol=1e-5 * s[0].item())


def test_a_sum_at_its_full_rank_is_exact(base, folders):
    model = load_model(base, *folders[:2])
    model.use({folders[0]: 1.0, folders[1]: 2.0})
    exact = logits(model)
    model.use({folders[0]: 1.0, folders[1]: 2.0}, rank=6)
    assert torch.equal(logits(model), exact)


def test_rows_of_a_mixed_batch_say_what_each_adapter_alone_says(model, folders):
    rows = [folders[2], None, folders[0], {folders[0]: 0.5, folders[3]: 1.0}]
    expected = []
    for row, tokens in zip(rows, ROWS, strict=True):
        with model.using(row):
            expected.append(logits(model, tokens[None]))
    mixed = logits(model, ROWS, adapters=rows)
    assert relative_error(mixed, torch.cat(expected)) <= 1e-5


@pytest.mark.parametrize("few_tokens", [0, 10_000], ids=["one by one", "side by side"])
def test_both_ways_to_mix_say_the_same(few_tokens, model, folders, monkeypatch):
    monkeypatch.setattr("hub.runtime.mixed.FEW_TOKENS", few_tokens)
    rows = [folders[1], folders[0], None, folders[1]]
    expected = []
    for row, tokens in zip(rows, ROWS, strict=True):
        with model.using(row):
            expected.append(logits(model, tokens[None]))
    assert relative_error(logits(model, ROWS, adapters=rows), torch.cat(expected)) <= 1e-5


def test_a_mixed_batch_agrees_with_peft_s_adapter_names(base, folders, model):
    oracle = peft.PeftModel.from_pretrained(support.open_base(base), folders[0], adapter_name="a").eval()
    oracle.load_adapter(folders[1], adapter_name="b")
    with torch.no_grad():
        expected = oracle(input_ids=ROWS, adapter_names=["b", "a", "__base__", "b"]).logits
    ours = logits(model, ROWS, adapters=[folders[1], folders[0], None, folders[1]])
    assert relative_error(ours, expected) <= 1e-5


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"num_return_sequences": 2, "num_beams": 2}, {}])
def test_a_mixed_generation_keeps_the_order_of_rows(options, model, folders):
    rows = [folders[0], None, folders[2], folders[0]]
    together = model.generate(input_ids=ROWS, adapters=rows, **GENERATE, **options)
    count = options.get("num_return_sequences", 1)
    for index, row in enumerate(rows):
        with model.using(row):
            alone = model.generate(input_ids=ROWS[index : index + 1], **GENERATE, **options)
        assert torch.equal(together[index * count : (index + 1) * count, : alone.shape[1]], alone)


def test_a_mixed_batch_can_be_sampled(model, folders):
    options = {"max_new_tokens": 8, "do_sample": True, "top_k": 0, "pad_token_id": 0}
    rows = [folders[0], folders[1], folders[0], folders[1]]
    torch.manual_seed(3)
    mixed = model.generate(input_ids=ROWS, adapters=rows, **options)
    torch.manual_seed(3)
    assert torch.equal(model.generate(input_ids=ROWS, adapters=rows, **options), mixed)
    for adapter, mine in ((folders[0], [0, 2]), (folders[1], [1, 3])):
        torch.manual_seed(3)
        alone = model.generate(input_ids=ROWS, adapters=adapter, **options)
        assert torch.equal(alone[mine], mixed[mine]), "the same draws meet the same distributions"


def test_a_mixed_batch_may_hold_dora_tokens_and_whole_modules(base, folders, tmp_path):
    """PEFT refuses such a batch; here each row is computed as its adapter alone would be."""
    dora = write_adapter(base, tmp_path / "dora", r=3, target_modules=["q_proj", "up_proj"], use_dora=True)
    tokens = write_adapter(base, tmp_path / "tok", r=3, target_modules=["v_proj"], trainable_token_indices=[5, 9])
    whole = write_adapter(base, tmp_path / "whole", r=3, target_modules=["v_proj"], modules_to_save=["lm_head"])
    model = load_model(base, dora, tokens, whole, folders[0])
    rows = [dora, tokens, whole, folders[0]]
    expected = []
    for row, ids in zip(rows, ROWS, strict=True):
        with model.using(row):
            expected.append(logits(model, ids[None]))
    assert relative_error(logits(model, ROWS, adapters=rows), torch.cat(expected)) <= 1e-5


def test_generate_adds_what_is_missing(base, folders):
    model = load_model(base)
    model.generate(input_ids=ROWS[:2], adapters=[folders[0], folders[1]], **GENERATE)
    assert set(model.adapters) == {str(folders[0]), str(folders[1])}
    assert model.active is None


def test_a_stream_yields_what_generate_returns(model, folders):
    class Tokens(transformers.generation.streamers.BaseStreamer):
        def __init__(self):
            self.seen = []

        def put(self, value):
            self.seen.extend(value.flatten().tolist())

        def end(self):
            self.seen.append("end")

    streamer = Tokens()
    out = model.generate(input_ids=ROWS[:1], adapters=[folders[1]], streamer=streamer, **GENERATE)
    assert streamer.seen == [*out[0].tolist(), "end"]


def test_threads_with_different_adapters_say_what_each_alone_says(model, folders):
    choices = [folders[0], folders[1], None, [folders[2], folders[3]]]
    inputs = [ROWS[:1], ROWS[1:2], ROWS[2:3], ROWS[2:4]]
    jobs = list(zip(choices, inputs, strict=True))
    alone = [_generate(model, choice, ids) for choice, ids in jobs]
    results: dict[int, list[torch.Tensor]] = {}
    barrier = threading.Barrier(len(jobs))

    def run(number: int) -> None:
        barrier.wait()
        results[number] = [_generate(model, *jobs[number]) for _ in range(3)]

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(jobs))]
    for thread in threads:
        thread.start()
    for _ in range(20):
        model.use(folders[3])  # what others choose for all must not reach a call that has its own
        model.use(folders[0])
    for thread in threads:
        thread.join()
    for number, expected in enumerate(alone):
        assert all(torch.equal(found, expected) for found in results[number])


def _generate(model, choice, ids):
    if choice is None:
        with model.using(None):
            return model.generate(input_ids=ids, **GENERATE)
    return model.generate(input_ids=ids, adapters=choice, **GENERATE)


def test_a_running_call_is_not_reached_by_use(model, folders):
    """`use` in the middle of a generation is for the next one."""
    expected = model.generate(input_ids=ROWS[:1], adapters=folders[0], **GENERATE)

    class Meddler(transformers.LogitsProcessor):
        def __call__(self, input_ids, scores):
            model.use(folders[1])
            return scores

    model.use(folders[0])
    found = model.generate(
        input_ids=ROWS[:1], logits_processor=transformers.LogitsProcessorList([Meddler()]), **GENERATE
    )
    assert torch.equal(found, expected)
    assert model.active == str(folders[1])


# --- slots


def test_the_least_recently_used_adapter_leaves_by_name_and_comes_back(base, folders, caplog):
    model = load_model(base, *folders[:2], slots=2)
    first = logits(model)
    model.use(folders[1])
    with caplog.at_level(logging.INFO, logger="hub.runtime"):
        model.add(folders[2])
    assert f"{folders[0]} left its slot for {folders[2]}" in caplog.text
    assert set(model.adapters) == {str(folders[1]), str(folders[2])}
    model.use(folders[2])
    model.use(folders[0])
    assert torch.equal(logits(model), first)


def test_an_adapter_in_use_never_leaves(base, folders):
    model = load_model(base, folders[0], slots=1)
    with pytest.raises(Unavailable, match=r"All 1 slots hold adapters that are in use.*slots=2"):
        model.add(folders[1])
    assert model.adapters == (str(folders[0]),)
    with pytest.raises(Unavailable):
        model.generate(input_ids=ROWS[:2], adapters=[folders[0], folders[1]], **GENERATE)


def test_a_removed_adapter_s_memory_is_freed(base, folders):
    model = load_model(base, folders[0], folders[1])
    loaded = next(adapter for adapter in model._library.slots if adapter.ref == str(folders[1]))
    storages = {id(t.untyped_storage()) for update in loaded.updates.values() for t in update.tensors()}
    assert storages
    gone = [weakref.ref(update.a_t.untyped_storage()) for update in loaded.updates.values()]
    gone.append(weakref.ref(loaded))
    del loaded
    model.remove(folders[1])
    assert all(reference() is None for reference in gone)
    assert model.adapters == (str(folders[0]),)


def test_an_adapter_takes_no_more_memory_than_its_tensors(base, folders):
    model = load_model(base, *folders)
    for adapter in model._library.slots:
        weights = sum(t.numel() for update in adapter.updates.values() for t in update.tensors())
        assert adapter.size_bytes <= 1.05 * 4 * weights


def test_switching_visits_no_module(base, folders, monkeypatch):
    model = load_model(base, *folders)
    monkeypatch.setattr(torch.nn.Module, "named_modules", None)
    monkeypatch.setattr(torch.nn.Module, "modules", None)
    for folder in [*folders, None]:
        model.use(folder)
        assert model.active == (folder and str(folder))


# --- refusals


def test_adding_twice_is_one_adapter(model, folders):
    assert model.add(folders[0]) == model.add(str(folders[0])) == str(folders[0])
    assert len(model.adapters) == 4


def test_a_folder_that_changed_since_is_not_taken_for_the_same(base, folders, tmp_path):
    mine = write_adapter(base, tmp_path / "mine", seed=7, r=2, target_modules=["q_proj"])
    model = load_model(base, mine)
    before = logits(model)
    write_adapter(base, mine, seed=8, r=2, target_modules=["q_proj"])
    with pytest.raises(Conflict, match="have changed since"):
        model.add(mine)
    assert torch.equal(logits(model), before), "what is loaded goes on as it was"
    model.use(None)
    model.remove(mine)
    model.add(mine)
    model.use(mine)
    assert relative_error(logits(model), support.peft_logits(base, mine)) <= 1e-5


def test_use_of_what_was_never_added_says_what_is_there(base, folders):
    model = load_model(base, folders[0])
    with pytest.raises(AdapterNotFound, match=r"task/qa@v1 isn't loaded: model\.add\('task/qa@v1'\)") as found:
        model.use("task/qa@v1")
    assert str(folders[0]) in str(found.value)
    with pytest.raises(AdapterNotFound):
        model.use({folders[0]: 1.0, folders[1]: 1.0})
    with pytest.raises(InvalidRequest):
        model.use({})
    assert model.active == str(folders[0])


def test_the_active_adapter_can_t_be_removed(model, folders):
    with pytest.raises(Conflict, match=r"is in use. Choose another first"):
        model.remove(folders[0])
    with model.using(folders[1]), pytest.raises(Conflict):
        model.remove(folders[1])
    model.remove(folders[1])
    with pytest.raises(AdapterNotFound):
        model.remove(folders[1])


def test_a_mixed_batch_needs_one_adapter_for_every_row(model, folders):
    with pytest.raises(InvalidRequest, match="names 2 rows, and the batch has 4"):
        model.generate(input_ids=ROWS, adapters=folders[:2], **GENERATE)
    with pytest.raises(InvalidRequest):
        model.generate(input_ids=ROWS, adapters=[], **GENERATE)
    with pytest.raises(InvalidRequest, match="is no adapter"):
        model.generate(input_ids=ROWS[:1], adapters=[3], **GENERATE)


def test_a_weighted_sum_with_dora_is_refused_by_module(base, folders, tmp_path):
    dora = write_adapter(base, tmp_path / "dora", r=2, target_modules=["q_proj"], use_dora=True)
    model = load_model(base, dora, folders[0])
    with pytest.raises(Unsupported, match=r"q_proj: only plain low-rank updates add up"):
        model.use({dora: 1.0, folders[0]: 1.0})
    assert model.active == str(dora)


def test_a_base_that_peft_wrapped_is_refused(base, folders):
    from hub.errors import Incompatible

    wrapped = peft.PeftModel.from_pretrained(support.open_base(base), folders[0])
    for candidate in (wrapped, wrapped.get_base_model()):
        with pytest.raises(Incompatible, match="wrapped by PEFT already"):
            load(candidate)


def test_a_base_of_another_model_is_refused(base):
    from hub.errors import Incompatible

    bare = support.open_base(base)
    load(bare, *[])
    adapter_free = load(bare)
    assert adapter_free.adapters == ()
    first = load(support.open_base(base))
    first._attachment.adapt(["model.layers.0.self_attn.q_proj"])
    with pytest.raises(Incompatible, match=r"used by another hub\.Model"):
        load(first.base)


@pytest.mark.parametrize("arguments", [{"quantize": "int3"}, {"slots": 0}, {"device": "cuda:99"}, {"device": "tpu?"}])
def test_arguments_that_can_t_be_are_refused_with_what_can(arguments, base):
    with pytest.raises(InvalidRequest):
        load(base, **({"quantize": None, "device": "cpu"} | arguments))


def test_more_refs_than_slots_are_refused_before_anything_is_loaded(folders):
    with pytest.raises(InvalidRequest, match="pass slots=4"):
        load("./no-such-base", *folders, slots=3)


def test_the_summary_prints_peft_s_line(base, folders, capsys):
    model = load_model(base, folders[0])
    model.print_trainable_parameters()
    ours = capsys.readouterr().out
    oracle = peft.PeftModel.from_pretrained(support.open_base(base), folders[0], is_trainable=True)
    oracle.print_trainable_parameters()
    assert ours == capsys.readouterr().out
    assert model.summary().line() in ours


def test_other_attributes_are_the_base_s(model):
    assert model.config is model.base.config
    assert model.device == torch.device("cpu")
    with pytest.raises(AttributeError):
        _ = model.no_such_attribute


def test_key_values_of_another_adapter_are_refused(model, folders):
    """They were computed by it: continued with another one, they are of no model."""
    import copy

    first, then = ROWS[:, :3], ROWS[:, 3:]
    with torch.no_grad():
        whole = model(input_ids=ROWS).logits[:, -1]
        cache = model(input_ids=first, use_cache=True).past_key_values
        prefix = copy.deepcopy(cache)
        assert relative_error(model(input_ids=then, past_key_values=cache).logits[:, -1], whole) <= 1e-5
        model.use(folders[1])
        with pytest.raises(Conflict, match=r"past_key_values were filled with .*a0.*and this call is with .*a1"):
            model(input_ids=then, past_key_values=prefix)
        with pytest.raises(Conflict, match="past_key_values were filled with"):
            model.generate(input_ids=ROWS, past_key_values=prefix, **GENERATE)
        again = model(input_ids=then, past_key_values=prefix, adapters=folders[0]).logits[:, -1]
        assert relative_error(again, whole) <= 1e-5
        rows = [folders[0], None, folders[1], None]
        mixed = model(input_ids=first, use_cache=True, adapters=rows).past_key_values
        model(input_ids=then, past_key_values=mixed, adapters=rows)
        with pytest.raises(Conflict, match="the bare base"):
            model(input_ids=then, past_key_values=mixed, adapters=rows[::-1])
        cache.crop(0) if hasattr(cache, "crop") else None
        if cache.get_seq_length() == 0:
            model(input_ids=first, past_key_values=cache)


def test_key_values_that_generate_filled_are_of_its_adapter(model, folders):
    out = model.generate(input_ids=ROWS, return_dict_in_generate=True, **GENERATE)
    model.use(None)
    with pytest.raises(Conflict, match="past_key_values were filled with"):
        model.generate(input_ids=out.sequences, past_key_values=out.past_key_values, **GENERATE)
