"""`compute=`: what a base is multiplied in.  float32 is the reference; bfloat16 is as near to it as PEFT's bfloat16."""

from __future__ import annotations

import peft
import pytest
import torch

from hub.errors import InvalidRequest
from hub.runtime import load
from hub.runtime.four_bit import Linear4bit
from tests.runtime import support
from tests.runtime.support import logits, peft_logits, relative_error


@pytest.fixture(scope="module")
def base(bases):
    return bases("tied-llama")


@pytest.fixture(scope="module")
def adapter(base, tmp_path_factory):
    targets = support.targets_of("llama")
    return support.write_adapter(base, tmp_path_factory.mktemp("compute") / "a", r=4, target_modules=targets)


def codes(model) -> dict[str, torch.Tensor]:
    return {n: m.weight.data for n, m in model.base.named_modules() if isinstance(m, Linear4bit)}


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_bfloat16_is_as_near_to_float32_as_peft_s_own(base, adapter, quantize):
    exact = peft_logits(base, adapter, quantize)
    theirs = peft.PeftModel.from_pretrained(support.open_base(base, quantize), adapter).eval()
    for module in theirs.modules():
        if isinstance(module, Linear4bit):
            module.compute_dtype = torch.bfloat16
    narrow = logits(theirs.to(torch.bfloat16)).float()
    ours = logits(load(base, adapter, device="cpu", quantize=quantize, compute="bfloat16"))
    assert ours.dtype == torch.bfloat16
    assert 0 < relative_error(ours.float(), exact) <= 2 * relative_error(narrow, exact)


def test_float32_is_the_default_on_a_cpu(base, adapter):
    said = logits(load(base, adapter, device="cpu", compute="float32"))
    assert torch.equal(said, logits(load(base, adapter, device="cpu")))


def test_the_codes_are_the_same_whatever_is_computed_in(base, adapter):
    wide, narrow = (load(base, adapter, device="cpu", compute=name) for name in ("float32", "bfloat16"))
    assert codes(wide).keys() == codes(narrow).keys() != set()
    assert all(torch.equal(value, codes(narrow)[name]) for name, value in codes(wide).items())
    again = load(base, adapter, device="cpu", compute="bfloat16")  # from the cached copy
    assert torch.equal(logits(again), logits(narrow))


def test_a_merge_in_bfloat16_keeps_the_function_and_is_taken_back_exactly(base, adapter):
    model = load(base, adapter, device="cpu", compute="bfloat16")
    before = logits(model)
    exact = peft_logits(base, adapter, "nf4")
    report = model.merge("dequant")
    assert report.retention == pytest.approx(1, abs=0.05)
    # A merged weight is rounded to bfloat16, as every layer's output is without the merge.
    assert relative_error(logits(model).float(), exact) <= 3 * relative_error(before.float(), exact)
    model.unmerge()
    assert torch.equal(logits(model), before)


def test_another_type_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(InvalidRequest, match="compute='int8'"):
        load(tmp_path / "no-base", compute="int8")
