"""What is trained by default is attention, whatever a base calls it, and the card and the plan say so."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

import hub
from hub.base.spec import BaseSpec
from hub.errors import InvalidRequest
from hub.runtime import load
from tests.training.bases import make_tokenizer, write_base

DATA = [{"prompt": f"{number} and {number}", "completion": "yes"} for number in range(4)]
FAST = {"steps": 1, "batch_size": 4, "device": "cpu"}
GPT = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 128}

EXPECTED = {
    "llama": ({}, ["k_proj", "o_proj", "q_proj", "v_proj"], 4),
    "phi3": ({}, ["o_proj", "qkv_proj"], 2),
    "gpt2": (GPT, ["attn.c_proj", "c_attn"], 2),
    "bloom": ({"n_layer": 2, "n_head": 4}, ["dense", "query_key_value"], 2),
    "phi": ({}, ["dense", "k_proj", "q_proj", "v_proj"], 4),
    "opt": (
        {"ffn_dim": 96, "word_embed_proj_dim": 64, "max_position_embeddings": 128},
        ["k_proj", "out_proj", "q_proj", "v_proj"],
        4,
    ),
}


@pytest.mark.parametrize("kind", EXPECTED)
def test_all_of_attention_is_trained_and_the_card_and_the_plan_say_so(kind, tmp_path):
    sizes, names, count = EXPECTED[kind]
    base = tmp_path / "base"
    if kind in ("gpt2", "bloom"):
        config = AutoConfig.for_model(kind, vocab_size=260, hidden_size=64, bos_token_id=256, eos_token_id=256, **sizes)
        AutoModelForCausalLM.from_config(config).save_pretrained(base)
        make_tokenizer().save_pretrained(base)
    else:
        write_base(base, kind, **sizes)
    trained = hub.train(base, DATA, tmp_path / "adapter", **FAST)
    config = json.loads((trained.path / "adapter_config.json").read_text())
    assert sorted(config["target_modules"]) == names
    tensors = load_file(trained.path / "adapter_model.safetensors")
    assert len(tensors) == 2 * 2 * count  # A and B, two layers
    assert f"on {', '.join(f'`{name}`' for name in names)}." in (trained.path / "README.md").read_text()
    assert hub.plan(BaseSpec.from_folder(base)).trainable == sum(tensor.numel() for tensor in tensors.values())
    model = load(base, trained.path, quantize=None, device="cpu")
    with torch.no_grad():
        assert torch.isfinite(model(input_ids=torch.tensor([[1, 2, 3]])).logits).all()


def test_a_target_that_the_base_doesn_t_have_is_refused_not_left_out(tiny_base, tmp_path):
    with pytest.raises(InvalidRequest, match=r"no module qkv_proj; it has .*q_proj"):
        hub.train(tiny_base, DATA, tmp_path / "adapter", target_modules=["o_proj", "qkv_proj"], **FAST)
    assert not (tmp_path / "adapter").exists()
