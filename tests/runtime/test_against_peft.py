"""Every kind of adapter on every kind of base says what PEFT says."""

from __future__ import annotations

from pathlib import Path

import peft
import pytest
import torch

from tests.runtime import support
from tests.runtime.support import load_model, logits, peft_logits, relative_error, write_adapter

KINDS = [kind for kind in support.CONFIGS if kind not in ("tied-llama", "biased-llama")]
QUANTIZE = [None, "nf4"]
TOLERANCE = 1e-5


@pytest.mark.parametrize("quantize", QUANTIZE)
@pytest.mark.parametrize("kind", KINDS)
def test_every_architecture_gives_peft_s_logits(kind, quantize, bases, tmp_path):
    base = bases(kind)
    folder = write_adapter(base, tmp_path / "a", r=4, lora_alpha=8, target_modules=support.targets_of(kind))
    expected = peft_logits(base, folder, quantize)
    model = load_model(base, folder, quantize=quantize)
    assert relative_error(logits(model), expected) <= TOLERANCE
    bare = support.open_base(base, quantize)
    model.use(None)
    assert relative_error(logits(model), logits(bare)) <= (TOLERANCE if quantize else 0)
    assert relative_error(logits(bare), expected) > 1e-3, "the adapter must matter, or this test says nothing"


@pytest.mark.usefixtures("_kernel_off")
@pytest.mark.parametrize("quantize", QUANTIZE)
@pytest.mark.parametrize("alpha", [4, 8, 1])  # scalings of 1, 2 and 1/4: folding a power of two into B is exact
def test_logits_equal_peft_s_to_the_last_bit_where_the_order_of_operations_is_the_same(
    alpha, quantize, bases, tmp_path
):
    base = bases("llama")
    folder = write_adapter(base, tmp_path / "a", r=4, lora_alpha=alpha, target_modules=support.targets_of("llama"))
    model = load_model(base, folder, quantize=quantize)
    assert torch.equal(logits(model), peft_logits(base, folder, quantize))
    model.use(None)
    assert torch.equal(logits(model), logits(support.open_base(base, quantize)))


VARIANTS = {
    "rslora": {"use_rslora": True},
    "rank pattern": {"rank_pattern": {"q_proj": 2, r"layers\.1\.mlp\.up_proj": 6}},
    "alpha pattern": {"alpha_pattern": {"v_proj": 3, r"0\.mlp\.up_proj": 1}, "rank_pattern": {"v_proj": 5}},
    "lora_bias": {"lora_bias": True, "kind": "biased-llama"},
    "bias of adapted layers": {"bias": "lora_only", "kind": "biased-llama"},
    "all biases": {"bias": "all", "kind": "biased-llama"},
    "all biases, norms too": {"bias": "all", "kind": "phi"},
    "dora": {"use_dora": True},
    "dora with biases": {"use_dora": True, "kind": "biased-llama"},
    "dora on Conv1D": {"use_dora": True, "kind": "gpt2", "fan_in_fan_out": True},
    "dora and rslora": {"use_dora": True, "use_rslora": True, "r": 5},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "embeddings that are tied": {"target_modules": ["v_proj", "embed_tokens"], "kind": "tied-llama"},
    "embeddings with a scale": {"target_modules": ["q_proj", "embed_tokens"], "kind": "gemma3"},
    "dora on embeddings": {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
    "output head": {"target_modules": ["q_proj", "lm_head"]},
    "output head that is tied": {"target_modules": ["q_proj", "lm_head"], "kind": "tied-llama"},
    "whole head": {"modules_to_save": ["lm_head"]},
    "whole embedding and head": {"modules_to_save": ["lm_head", "embed_tokens"]},
    "whole tied embedding": {"modules_to_save": ["embed_tokens"], "kind": "tied-llama"},
    "whole norms": {"modules_to_save": ["input_layernorm", "norm"]},
    "trained tokens": {"trainable_token_indices": [3, 88, 42]},
    "trained tokens that are tied": {"trainable_token_indices": [88, 3, 42], "kind": "tied-llama"},
    "trained tokens with a scale": {"trainable_token_indices": {"embed_tokens": [7, 61]}, "kind": "gemma3"},
    "one layer only": {"layers_to_transform": [1], "layers_pattern": "layers"},
    "a pattern of targets": {"target_modules": r".*\.(q|v)_proj"},
    "excluded modules": {"exclude_modules": ["k_proj"]},
    "all-linear": {"target_modules": "all-linear"},
    "rank 1": {"r": 1, "lora_alpha": 3},
}  # fmt: skip


@pytest.mark.parametrize("quantize", QUANTIZE)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_kind_of_adapter_gives_peft_s_logits(variant, quantize, bases, tmp_path):
    config = dict(VARIANTS[variant])
    kind = config.pop("kind", "llama")
    if quantize and "biases" in variant and kind == "phi":
        kind = "biased-llama"
    base = bases(kind)
    settings = {"r": 4, "lora_alpha": 6, "target_modules": support.targets_of(kind)} | config
    folder = write_adapter(base, tmp_path / "a", **settings)
    expected = peft_logits(base, folder, quantize)
    model = load_model(base, folder, quantize=quantize)
    assert relative_error(logits(model), expected) <= TOLERANCE
    model.use(None)
    bare = logits(support.open_base(base, quantize))
    assert relative_error(logits(model), bare) <= (TOLERANCE if quantize else 0)
    assert relative_error(bare, expected) > 1e-3


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_adapters_saved_in_16_bits_are_computed_as_peft_does(dtype, bases, tmp_path):
    base = bases("llama")
    folder = write_adapter(base, tmp_path / "a", r=4, target_modules=["q_proj", "up_proj"], dtype=dtype)
    assert relative_error(logits(load_model(base, folder)), peft_logits(base, folder)) <= TOLERANCE


@pytest.mark.parametrize("quantize", QUANTIZE)
def test_generated_tokens_are_peft_s(quantize, bases, tmp_path):
    base = bases("llama")
    folder = write_adapter(base, tmp_path / "a", r=4, target_modules=support.targets_of("llama"))
    oracle = peft.PeftModel.from_pretrained(support.open_base(base, quantize), folder).eval()
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    expected = oracle.generate(input_ids=support.TOKENS, **options)
    assert torch.equal(
        load_model(base, folder, quantize=quantize).generate(input_ids=support.TOKENS, **options), expected
    )


def test_a_bfloat16_base_is_computed_within_its_own_rounding(bases, tmp_path):
    base = bases("llama")
    folder = write_adapter(base, tmp_path / "a", r=4, target_modules=support.targets_of("llama"))
    oracle = peft.PeftModel.from_pretrained(support.open_base(base).to(torch.bfloat16), folder).eval()
    expected = logits(oracle)
    from hub.runtime import load

    ours = logits(load(support.open_base(base).to(torch.bfloat16), folder))
    assert ours.dtype == torch.bfloat16
    assert relative_error(ours.float(), expected.float()) <= 2**-7


def test_the_base_keeps_its_state_dict_and_classes(bases, tmp_path):
    base = bases("llama")
    folder = write_adapter(base, tmp_path / "a", r=4, target_modules=["q_proj", "embed_tokens"])
    before = support.open_base(base).state_dict()
    model = load_model(base, folder)
    after = model.base.state_dict()
    assert list(after) == list(before)
    assert all(torch.equal(after[name], before[name]) for name in before)
    assert isinstance(model.base.model.layers[0].self_attn.q_proj, torch.nn.Linear)


def test_an_adapter_whose_targets_have_no_weights_is_refused_by_module(bases, tmp_path):
    import json

    from hub.errors import Incompatible

    base = bases("llama")
    folder = write_adapter(base, tmp_path / "a", r=4, target_modules=["q_proj"])
    path = Path(folder) / "adapter_config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | {"target_modules": ["q_proj", "v_proj"]}))
    with pytest.raises(
        Incompatible, match=r"2 modules that it targets have no weights: model\.layers\.0\.self_attn\.v_proj"
    ):
        load_model(base, folder)
