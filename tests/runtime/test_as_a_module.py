"""What torch users do to a model: eval, to, autocast, copy, pickle, spawn, offload."""

from __future__ import annotations

import copy
import io
import pickle
from pathlib import Path
from typing import Any

import accelerate
import peft
import pytest
import torch

import hub
from hub.errors import Conflict
from hub.runtime import load
from tests.runtime import support
from tests.runtime.spawned import answer_in_another_process
from tests.runtime.support import TOKENS, load_model, logits, relative_error, write_adapter

EVERY = support.targets_of("llama")
KINDS: dict[str, dict[str, Any]] = {
    "lora": {"target_modules": EVERY, "r": 4},
    "dora": {"target_modules": ["q_proj", "down_proj"], "r": 4, "use_dora": True},
    "whole modules": {"target_modules": ["q_proj"], "r": 2, "modules_to_save": ["lm_head", "input_layernorm"]},
    "embeddings": {"target_modules": ["embed_tokens", "q_proj"], "r": 2},
    "tokens": {"target_modules": ["q_proj"], "r": 2, "trainable_token_indices": [3, 88]},
    "biases": {"target_modules": ["q_proj"], "r": 2, "bias": "all"},
    "biases of B": {"target_modules": ["q_proj"], "r": 2, "lora_bias": True},
}
BFLOAT16 = 2**-7
"""Two steps of a type with eight bits."""


@pytest.fixture(scope="module")
def folders(bases, tmp_path_factory) -> dict[str, Path]:
    root, base = tmp_path_factory.mktemp("kinds"), bases("biased-llama")
    return {name: write_adapter(base, root / name, seed=len(name), **chosen) for name, chosen in KINDS.items()}


@pytest.mark.parametrize("call", ["eval", "train", "to", "float", "cpu", "requires_grad_"])
def test_what_returns_a_module_returns_the_model(call, bases, folders):
    model = load_model(bases("biased-llama"), folders["lora"])
    arguments = {"to": ("cpu",), "requires_grad_": (False,)}.get(call, ())
    assert getattr(model, call)(*arguments) is model
    assert isinstance(model, hub.Model)


@pytest.mark.parametrize("convert", [lambda model: model.to(torch.bfloat16), lambda model: model.bfloat16()])
@pytest.mark.parametrize("name", KINDS)
def test_a_model_in_another_type_says_what_peft_says_in_it(name, convert, bases, folders):
    base = bases("biased-llama")
    model = convert(load_model(base, folders[name]))
    oracle = convert(peft.PeftModel.from_pretrained(support.open_base(base), folders[name]).eval())
    found, expected = logits(model), logits(oracle)
    assert found.dtype == expected.dtype == torch.bfloat16
    exact = logits(load_model(base, folders[name]))
    assert (found - exact).norm() <= 1.5 * (expected - exact).norm() + BFLOAT16 * exact.norm()
    assert relative_error(logits(model.float()), exact) < 8 * BFLOAT16, "the base was rounded, and no adapter was"


@pytest.mark.parametrize("name", KINDS)
def test_the_base_may_be_converted_by_itself(name, bases, folders):
    model = load_model(bases("biased-llama"), folders[name])
    exact = logits(model)
    model.base.to(torch.bfloat16)
    found = logits(model)
    assert (found.float() - exact).norm() <= 8 * BFLOAT16 * exact.norm()


def test_a_merged_model_is_not_converted(bases, folders):
    model = load_model(bases("biased-llama"), folders["lora"])
    model.merge()
    with pytest.raises(Conflict, match="unmerge"):
        model.to(torch.bfloat16)


@pytest.mark.parametrize("quantize", [None, "nf4"])
@pytest.mark.parametrize("name", sorted(set(KINDS) - {"whole modules"}))
def test_under_autocast_a_model_says_what_peft_says(name, quantize, bases, folders):
    base = bases("biased-llama")
    model = load_model(base, folders[name], quantize=quantize)
    oracle = peft.PeftModel.from_pretrained(support.open_base(base, quantize), folders[name]).eval()
    exact = logits(model)
    with torch.autocast("cpu", torch.bfloat16):
        found, expected = logits(model), logits(oracle)
        merged = model.merge() and logits(model)
    assert found.dtype == expected.dtype
    bound = 1.5 * (expected - exact).norm() + BFLOAT16 * exact.norm()
    assert (found - exact).norm() <= bound
    assert (merged - exact).norm() <= bound + 2 * BFLOAT16 * exact.norm()


def test_rows_are_mixed_under_autocast(bases, folders):
    model = load_model(bases("biased-llama"), folders["lora"], folders["dora"])
    rows = [folders["lora"], folders["dora"]]
    exact = logits(model, adapters=rows)
    with torch.autocast("cpu", torch.bfloat16):
        assert (logits(model, adapters=rows) - exact).norm() <= 8 * BFLOAT16 * exact.norm()


def copies(model: Any) -> list[Any]:
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    return [copy.deepcopy(model), pickle.loads(pickle.dumps(model)), torch.load(buffer, weights_only=False)]


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_a_copy_says_the_same_and_goes_its_own_way(quantize, bases, folders):
    base = bases("biased-llama")
    names = [folders[name] for name in KINDS if not (quantize and name == "whole modules")]
    model = load_model(base, *names, quantize=quantize)
    for folder in names:
        model.use(folder)
        expected = logits(model)
        for copied in copies(model):
            assert copied.active == str(folder)
            assert torch.equal(logits(copied), expected)
            copied.use(None)
            copied.remove(folder)
            copied.add(folder)
            copied.use(folder)
            copied.merge()
            assert relative_error(logits(copied), expected) < 0.1
        assert torch.equal(logits(model), expected)


def test_a_merged_model_is_copied_merged(bases, folders):
    model = load_model(bases("biased-llama"), folders["dora"], quantize="nf4")
    before = logits(model)
    model.merge()
    merged = logits(model)
    for copied in copies(model):
        assert torch.equal(logits(copied), merged)
        copied.unmerge()
        assert torch.equal(logits(copied), before)


def test_a_model_goes_to_another_process(bases, folders):
    model = load_model(bases("biased-llama"), folders["dora"], quantize="nf4")
    assert torch.equal(answer_in_another_process(model, TOKENS), logits(model))


def test_a_compiled_model_is_not_copied(bases, folders):
    model = load_model(bases("biased-llama"), folders["lora"])
    model.compile(backend="eager")
    with pytest.raises(Conflict, match="compiled"):
        copy.deepcopy(model)


@pytest.mark.parametrize("offload", ["cpu_offload", "disk_offload"])
@pytest.mark.parametrize("name", KINDS)
def test_an_offloaded_base_says_what_peft_says(name, offload, bases, folders, tmp_path):
    base = support.open_base(bases("biased-llama"))
    options = {"offload_dir": str(tmp_path)} if offload == "disk_offload" else {}
    getattr(accelerate, offload)(base, execution_device=torch.device("cpu"), **options)
    assert {parameter.device.type for parameter in base.parameters()} == {"meta"}
    model = load(base, folders[name])
    expected = support.peft_logits(bases("biased-llama"), folders[name])
    assert relative_error(logits(model), expected) < 1e-5
    model.merge()
    assert relative_error(logits(model), expected) < 1e-5
    model.unmerge()
    assert relative_error(logits(model), expected) < 1e-5
