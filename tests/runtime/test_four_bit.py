"""bitsandbytes on a CPU: the quick product is the same product, and no layer's bytes are ever changed under us."""

from __future__ import annotations

import bitsandbytes
import pytest
import torch
from bitsandbytes import functional as bnb_functional

from hub.runtime import four_bit, load
from tests.runtime import support
from tests.runtime.kernel.weights import formula
from tests.runtime.support import load_model, logits


def layer(out_features, in_features, *, double=True, kind="nf4", bias=True, dtype=torch.float32):
    made = bitsandbytes.nn.Linear4bit(
        in_features, out_features, bias=bias, compute_dtype=dtype, compress_statistics=double, quant_type=kind
    )
    made.support_avx512bf16_for_cpu = False  # the reference of these tests is bitsandbytes' float32 product
    return made.to("cpu").eval()


@pytest.mark.usefixtures("_kernel_off")
@pytest.mark.parametrize("double", [True, False], ids=["double", "plain"])
@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize(("out_features", "in_features"), [(64, 64), (48, 100), (1, 64), (96, 192), (33, 70), (5, 7)])
@torch.no_grad()
def test_without_the_kernel_the_product_equals_bitsandbytes_to_the_last_bit(out_features, in_features, kind, double):
    made = layer(out_features, in_features, double=double, kind=kind)
    for shape in ((1, 1), (2, 3)):
        x = torch.randn(*shape, in_features)
        ours = four_bit.product(x, made.weight, made.weight.quant_state, made.bias, made.compute_dtype)
        assert torch.equal(ours, made(x))


@torch.no_grad()
def test_the_quick_kernel_is_found_in_this_build():
    """Were it not, everything would still be right, and slower: this test tells."""
    made = layer(64, 64)
    assert four_bit._kernels() is not None
    assert four_bit._dense_in_scratch(torch.randn(1, 64), made.weight, made.weight.quant_state) is not None


@torch.no_grad()
@pytest.mark.parametrize("way", ["", "off"])
def test_layers_of_other_shapes_and_threads_do_not_share_a_result(way, monkeypatch):
    import threading

    from hub.runtime import kernel

    monkeypatch.setattr(kernel.ways._Chosen, "way", kernel.ways.find(way))

    layers = [layer(64, 64), layer(32, 128), layer(96, 32), layer(1, 64)]
    inputs = [torch.randn(2, made.in_features) for made in layers]
    expected = [
        four_bit.product(x, made.weight, made.weight.quant_state, made.bias, None)
        for made, x in zip(layers, inputs, strict=True)
    ]

    def run() -> list[bool]:
        with torch.no_grad():
            found = [
                four_bit.product(x, made.weight, made.weight.quant_state, made.bias, None)
                for made, x in zip(layers * 20, inputs * 20, strict=True)
            ]
        return [torch.equal(a, b) for a, b in zip(found, expected * 20, strict=True)]

    results: list[bool] = []
    threads = [threading.Thread(target=lambda: results.extend(run())) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 240
    assert all(results)


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("shape", [(64, 32), (64, 96), (64, 160), (48, 104), (5, 7), (3, 6000), (2, 31)])
@pytest.mark.parametrize("block", [64, 128, 4096])
def test_a_weight_is_dequantized_by_the_blocks_that_it_was_quantized_by(shape, block, kind):
    """Also where a row ends in the middle of one: bitsandbytes' code for AVX-512 takes other blocks there."""
    codes, state = bnb_functional.quantize_4bit(torch.randn(shape), quant_type=kind, blocksize=block)
    assert torch.equal(four_bit.dequantize(codes, state), formula(codes, state))


@pytest.mark.usefixtures("_kernel_off")
@torch.no_grad()
def test_such_a_weight_is_multiplied_rightly_without_the_kernel_too():
    codes, state = bnb_functional.quantize_4bit(torch.randn(64, 96), quant_type="nf4", compress_statistics=True)
    x = torch.randn(3, 96)
    ours = four_bit.product(x, codes, state, None, None)
    assert support.relative_error(ours, x @ formula(codes, state).T) <= 1e-6


def test_gradients_reach_the_input():
    made = layer(64, 32)
    x = torch.randn(3, 32, requires_grad=True)
    other = layer(64, 32)
    out = four_bit.product(x, made.weight, made.weight.quant_state, made.bias, torch.float32)
    four_bit.product(torch.randn(3, 32), other.weight, other.weight.quant_state, None, torch.float32)
    out.sum().backward()
    dense = four_bit.dequantize(made.weight, made.weight.quant_state)
    assert torch.allclose(x.grad, dense.sum(0).expand(3, -1), atol=1e-5)


def test_a_forward_repacks_no_weight(bases):
    """On every CPU the layers are told that theirs packs."""
    base = support.open_base(bases("llama"), "nf4")
    for module in base.modules():
        if isinstance(module, four_bit.Linear4bit):
            module.support_avx512bf16_for_cpu = True  # as bitsandbytes sets it on such a CPU
    codes = {name: value.clone() for name, value in base.state_dict().items()}
    model = load(base)
    logits(model)
    model.generate(input_ids=support.TOKENS, max_new_tokens=2, pad_token_id=0)
    for module in base.modules():
        if isinstance(module, four_bit.Linear4bit):
            assert not four_bit.is_packed(module)
    after = base.state_dict()
    assert all(torch.equal(after[name], codes[name]) for name in codes)


def test_the_trap_is_real_a_plain_forward_would_have_packed(bases):
    base = support.open_base(bases("llama"), "nf4")
    module = base.model.layers[0].mlp.up_proj
    before = module.weight.data.clone()
    module.support_avx512bf16_for_cpu = True
    with torch.no_grad():
        module(torch.randn(1, 1, 64))
    assert four_bit.is_packed(module)
    assert not torch.equal(module.weight.data.reshape(-1), before.reshape(-1))


def test_a_base_that_was_packed_already_is_unpacked(bases):
    """Its codes come back exactly; its statistics were rounded to bfloat16 when they were packed."""
    base = support.open_base(bases("llama"), "nf4")
    codes = {
        name: module.weight.data.clone()
        for name, module in base.named_modules()
        if isinstance(module, four_bit.Linear4bit)
    }
    expected = logits(base)
    assert support.pack(base) == 14
    model = load(base)
    for name, value in codes.items():
        assert torch.equal(base.get_submodule(name).weight.data, value)
    assert support.relative_error(logits(model), expected) < 0.05


def test_merging_after_forwards_uses_the_right_weights(bases, tmp_path):
    base = bases("llama")
    folder = support.write_adapter(base, tmp_path / "a", r=4, target_modules=["q_proj"])
    model = load_model(base, folder, quantize="nf4")
    fresh = load_model(base, folder, quantize="nf4")
    for _ in range(3):
        logits(model)
    assert model.merge().retention == fresh.merge().retention
    assert torch.equal(logits(model), logits(fresh))


@pytest.mark.usefixtures("_kernel_off")  # transformers opens it, and sums in its own order
def test_saving_the_base_after_a_forward_is_exact(bases, tmp_path):
    model = load_model(bases("llama"), quantize="nf4")
    expected = logits(model)
    model.base.save_pretrained(tmp_path / "saved")
    assert torch.equal(logits(support.open_base(tmp_path / "saved")), expected)
