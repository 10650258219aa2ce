"""The same promises on a GPU: bfloat16 factors, pinned staging, copies on a side stream."""

from __future__ import annotations

import pytest
import torch

from hub.runtime import load
from tests.runtime import support
from tests.runtime.support import logits, peft_logits, relative_error, write_adapter

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

BFLOAT16 = 2**-6
TOKENS = support.TOKENS


@pytest.fixture
def folders(bases, tmp_path):
    base, targets = bases("llama"), support.targets_of("llama")
    return [
        write_adapter(base, tmp_path / f"a{i}", seed=i, r=3 + i, target_modules=targets, use_dora=i == 2)
        for i in range(3)
    ]


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_logits_are_peft_s_within_bfloat16(quantize, bases, folders):
    model = load(bases("llama"), *folders, quantize=quantize, device="cuda")
    for folder in folders:
        model.use(folder)
        ours = logits(model, TOKENS.cuda()).float().cpu()
        assert relative_error(ours, peft_logits(bases("llama"), folder, quantize)) <= 4 * BFLOAT16


def test_adapters_live_on_the_gpu_in_the_base_s_type(bases, folders):
    model = load(bases("llama"), folders[0], quantize=None, device="cuda")
    for update in model._selection.shared.updates.values():
        assert all(t.is_cuda and t.dtype == torch.bfloat16 for t in update.tensors())


def test_rows_of_a_mixed_batch_say_what_each_says_alone(bases, folders):
    model = load(bases("llama"), *folders, quantize="nf4", device="cuda")
    together = logits(model, TOKENS.cuda(), adapters=[folders[1], None])
    for row, adapter in enumerate([folders[1], None]):
        with model.using(adapter):
            alone = logits(model, TOKENS[row : row + 1].cuda())
        assert relative_error(together[row : row + 1].float(), alone.float()) <= 4 * BFLOAT16


def test_adding_while_a_stream_computes_disturbs_nothing(bases, folders):
    model = load(bases("llama"), folders[0], quantize="nf4", device="cuda")
    expected = logits(model, TOKENS.cuda())
    for _ in range(5):
        found = logits(model, TOKENS.cuda())
        model.add(folders[1])
        assert torch.equal(found, expected)
        model.remove(folders[1])


def test_removing_frees_the_gpu_s_memory(bases, folders):
    model = load(bases("llama"), folders[0], quantize=None, device="cuda")
    before = torch.cuda.memory_allocated()
    model.add(folders[1])
    assert torch.cuda.memory_allocated() > before
    model.remove(folders[1])
    assert torch.cuda.memory_allocated() == before


def test_merging_and_unmerging(bases, folders):
    model = load(bases("llama"), folders[0], quantize="nf4", device="cuda")
    before = logits(model, TOKENS.cuda())
    report = model.merge("dequant")
    assert report.retention == pytest.approx(1, abs=0.02)
    assert relative_error(logits(model, TOKENS.cuda()).float(), before.float()) <= 8 * BFLOAT16
    model.unmerge()
    assert torch.equal(logits(model, TOKENS.cuda()), before)
