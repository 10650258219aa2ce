"""Where a dense weight is needed (DoRA, merging), it is the one that the layer computes with, or the answer is no."""

from __future__ import annotations

import peft
import pytest
import torch
import transformers
from peft.utils.integrations import dequantize_bnb_weight
from torch import nn

import hub
from hub.base.spec import BaseMatch, BaseSpec, compare_identity
from hub.errors import Unsupported
from hub.runtime import dense, load
from hub.runtime.memory_spec import spec_of
from tests.runtime import support
from tests.runtime.support import TOKENS, load_model, logits, relative_error, write_adapter

TARGETS = ["q_proj", "o_proj", "up_proj"]


def open_int8(folder, **options):
    settings = transformers.BitsAndBytesConfig(load_in_8bit=True, **options)
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, quantization_config=settings
    ).eval()


@pytest.fixture(params=["before a forward pass", "after one"])
def int8(request, base):
    """A model in 8 bits.  Its first forward pass moves the scales to another place."""
    model = open_int8(base)
    if request.param == "after one":
        logits(model)
    return model


def test_an_8_bit_layer_s_weight_is_its_codes_times_its_scales(int8, base):
    layer = int8.model.layers[0].self_attn.q_proj
    found = dense.dense_weight(layer)
    expected = dequantize_bnb_weight(layer.weight, state=layer.state).float()
    assert relative_error(found, expected) <= 1e-6
    original = support.open_base(base).model.layers[0].self_attn.q_proj.weight
    assert relative_error(found, original.detach()) <= 1 / 127  # half a step of 8 bits, twice


def test_dora_on_8_bits_gives_peft_s_logits(int8, base, tmp_path):
    folder = write_adapter(base, tmp_path / "a", r=4, target_modules=TARGETS, use_dora=True)
    oracle = peft.PeftModel.from_pretrained(open_int8(base), folder).eval()
    assert relative_error(logits(load(int8, folder)), logits(oracle)) <= 1e-3  # inputs in 8 bits, in float16


def test_a_merge_on_8_bits_keeps_the_adapter_and_is_saved_as_it_runs(int8, base, tmp_path):
    folder = write_adapter(base, tmp_path / "a", r=4, target_modules=TARGETS)
    model = load(int8, folder)
    before = logits(model)
    report = model.merge("dequant")
    assert report.retention == pytest.approx(1, abs=0.01)
    merged = logits(model)
    assert relative_error(merged, before) <= 0.1  # without the 8-bit rounding of inputs
    model.save_merged(tmp_path / "merged")
    saved = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    assert relative_error(logits(saved), merged) <= 1e-5
    model.unmerge()
    assert torch.equal(logits(model), before)


class Doubled(nn.Linear):
    """A layer whose weight isn't all that it computes with, as in quantizations that nobody here knows."""

    def forward(self, x):
        return super().forward(x) * 2


class Silent(nn.Linear):
    def forward(self, x):
        raise RuntimeError("no kernel for this device")


@pytest.mark.parametrize(("kind", "why"), [(Doubled, r"1 of its size away"), (Silent, "no kernel for this device")])
def test_a_layer_that_computes_something_else_is_refused_by_name(kind, why, base, tmp_path):
    lora = write_adapter(base, tmp_path / "lora", r=2, target_modules=["q_proj"])
    dora = write_adapter(base, tmp_path / "dora", r=2, target_modules=["q_proj"], use_dora=True)
    changed = support.open_base(base)
    for layer in changed.model.layers:
        layer.self_attn.q_proj.__class__ = kind
    model = load(changed, lora)
    with pytest.raises(Unsupported, match=rf"The dense weight of a .*{kind.__name__} isn't known: .*{why}"):
        model.merge()
    with pytest.raises(Unsupported, match=f"{kind.__name__} isn't known"):
        model.add(dora)


def test_fp8_is_refused_where_its_numbers_would_be_needed(base, tmp_path):
    """Its weight is meaningless without the scales beside it."""
    fp8 = pytest.importorskip("transformers.integrations.finegrained_fp8")
    dora = write_adapter(base, tmp_path / "dora", r=2, target_modules=["q_proj"], use_dora=True)
    changed = support.open_base(base)
    for layer in changed.model.layers:
        weight = layer.self_attn.q_proj.weight.detach()
        scale = weight.abs().max() / 448  # the largest float8_e4m3fn
        new = fp8.FP8Linear(*weight.shape[::-1], block_size=(64, 64))
        new.weight = nn.Parameter((weight / scale).to(torch.float8_e4m3fn), requires_grad=False)
        new.weight_scale_inv = nn.Parameter(scale.reshape(1, 1), requires_grad=False)
        layer.self_attn.q_proj = new
    with pytest.raises(Unsupported, match="FP8Linear isn't known"):
        load(changed, dora)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_an_8_bit_copy_is_known_from_a_copy_of_a_fine_tune(dtype, base, tmp_path):
    recorded = BaseSpec.from_folder(base).identity()
    copy = transformers.AutoModelForCausalLM.from_pretrained(
        base, dtype=dtype, quantization_config=transformers.BitsAndBytesConfig(load_in_8bit=True)
    )
    assert compare_identity(recorded, spec_of(copy)) is BaseMatch.COPY
    copy.save_pretrained(tmp_path / "int8")
    assert compare_identity(recorded, BaseSpec.from_folder(tmp_path / "int8")) is BaseMatch.COPY
    tuned = support.open_base(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.mul_(1 + 0.01 * torch.randn_like(parameter))
    tuned.save_pretrained(tmp_path / "tuned")
    assert compare_identity(recorded, spec_of(open_int8(tmp_path / "tuned"))) is BaseMatch.OTHER_WEIGHTS


def test_an_adapter_isn_t_loaded_on_an_8_bit_copy_of_a_fine_tune(base, tmp_path):
    from hub.adapter.provenance import Provenance

    folder = write_adapter(base, tmp_path / "a", r=2, target_modules=["q_proj"])
    Provenance(BaseSpec.from_folder(base).identity()).write(folder)
    tuned = support.open_base(base)
    with torch.no_grad():
        for parameter in tuned.parameters():
            parameter.mul_(1 + 0.01 * torch.randn_like(parameter))
    tuned.save_pretrained(tmp_path / "tuned")
    load(open_int8(base), folder)
    with pytest.raises(hub.HubError, match="other weights"):
        load(open_int8(tmp_path / "tuned"), folder)


def test_a_dense_and_a_4_bit_base_merge_as_before(base, tmp_path):
    folder = write_adapter(base, tmp_path / "a", r=2, target_modules=TARGETS)
    for quantize in (None, "nf4"):
        model = load_model(base, folder, quantize=quantize)
        before = logits(model, TOKENS)
        model.merge()
        assert relative_error(logits(model, TOKENS), before) <= 0.02
