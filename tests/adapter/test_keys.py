"""Tensor names are understood as PEFT writes them; other trainers' files are refused by what they are."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open

from hub.adapter.keys import AdapterTensor, adapter_names, is_saved_module, parse_key, parse_keys
from hub.errors import InvalidAdapter
from tests.support.peft_folders import VARIANTS, train

P = "base_model.model."


@pytest.mark.parametrize(
    ("name", "module", "kind", "parameter"),
    [
        (P + "model.layers.0.self_attn.q_proj.lora_A.weight", "model.layers.0.self_attn.q_proj", "lora_A", ""),
        (P + "model.layers.0.self_attn.q_proj.lora_B.weight", "model.layers.0.self_attn.q_proj", "lora_B", ""),
        (P + "lm_head.lora_B.bias", "lm_head", "lora_bias", ""),
        (P + "model.embed_tokens.lora_embedding_A", "model.embed_tokens", "embedding_A", ""),
        (P + "model.embed_tokens.lora_embedding_B", "model.embed_tokens", "embedding_B", ""),
        (P + "model.embed_tokens.base_layer.weight", "model.embed_tokens", "base_layer", "weight"),
        (P + "m.q_proj.lora_magnitude_vector", "m.q_proj", "magnitude", ""),
        (P + "m.q_proj.lora_magnitude_vector.weight", "m.q_proj", "magnitude", ""),
        (P + "m.embed.token_adapter.trainable_tokens_delta", "m.embed", "trainable_tokens", ""),
        (P + "m.q_proj.base_layer.bias", "m.q_proj", "bias", "bias"),
        (P + "lm_head.weight", "lm_head", "modules_to_save", "weight"),
        (P + "model.norm.bias", "model.norm", "modules_to_save", "bias"),
        ("transformer.h.0.attn.c_attn.lora_A", "transformer.h.0.attn.c_attn", "lora_A", ""),
        ("transformer.h.0.attn.c_attn.lora_B", "transformer.h.0.attn.c_attn", "lora_B", ""),
        ("model.layers.0.q_proj.lora_A.weight", "model.layers.0.q_proj", "lora_A", ""),
        (P + "x.lora_A.y.lora_A.weight", "x.lora_A.y", "lora_A", ""),
    ],
)
def test_each_form_of_name_is_read(name, module, kind, parameter):
    assert parse_key(name) == AdapterTensor(name, module, kind, parameter)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("lora_unet_down_blocks_0_attentions_0.lora_down.weight", "kohya"),
        ("lora_te1_text_model_encoder.alpha", "kohya"),
        ("blocks.0.attn.lora_up.weight", "kohya or LyCORIS"),
        ("unet.down_blocks.0.attn.to_q.lora_A.weight", "diffusers"),
        ("text_encoder.layers.0.q_proj.lora_linear_layer.down.weight", "diffusers"),
        ("unet.mid_block.attn1.processor.to_q_lora.down.weight", "diffusers"),
        ("transformer.single_transformer_blocks.0.attn.to_k.lora_A.weight", "diffusers"),
        (P + "m.experts.base_layer.lora_A.weight", "target_parameters"),
        (P + "m.q_proj.hada_w1_a", "LoHa"),
        (P + "m.q_proj.lokr_w1", "LoKr"),
        (P + "m.q_proj.ia3_l", "another PEFT method"),
        (P + "m.q_proj.lora_E", "another PEFT method"),
        (P + "m.q_proj.vera_lambda_b", "another PEFT method"),
        ("prompt_embeddings", "prompt-tuning"),
        ("model.layers.0.self_attn.q_proj.weight", "should start with"),
        ("weight", "should start with"),
        (P + "weight", "should start with"),
        (".lora_A", "should start with"),
        (P + ".lora_A.weight", "should start with"),
    ],
)
def test_other_files_are_refused_by_what_they_are_with_the_next_step(name, what):
    with pytest.raises(InvalidAdapter, match=what) as caught:
        parse_key(name)
    assert "save_pretrained" in caught.value.message


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_name_that_peft_writes_belongs_to_a_module_of_its_model(variant, tmp_path):
    trained = train(variant, tmp_path)
    modules = {name for name, _ in trained.model.base_model.model.named_modules()}
    with safe_open(tmp_path / "adapter_model.safetensors", "pt") as file:
        names = list(file.keys())
    parts = parse_keys(names, bias=trained.config.bias, modules_to_save=trained.config.modules_to_save or ())
    assert {part.module for part in parts} <= modules
    adapted = {part.module for part in parts if part.kind in {"lora_A", "embedding_A"}}
    assert adapted == set(trained.model.base_model.targeted_module_names)


def test_a_bare_bias_is_trained_unless_its_module_is_stored_whole():
    names = [P + "m.q_proj.bias", P + "score.bias"]
    kinds = [part.kind for part in parse_keys(names, bias="all", modules_to_save=["score"])]
    assert kinds == ["bias", "modules_to_save"]
    assert [part.kind for part in parse_keys(names)] == ["modules_to_save"] * 2


@pytest.mark.parametrize(
    ("module", "saved"),
    [("lm_head", True), ("model.lm_head", True), ("a.lm_head.out", True), ("my_lm_head", True), ("lm_head2", False)],
)
def test_a_module_is_saved_by_the_end_of_its_name_dot_or_not_as_in_peft(module, saved):
    assert is_saved_module(module, ["lm_head"]) is saved


@given(st.text(max_size=60))
def test_any_name_is_read_or_refused_and_nothing_else(name):
    with suppress(InvalidAdapter):
        assert parse_key(name).module


def test_a_raw_state_dict_is_read_by_its_names_without_the_adapter_s():
    parts = parse_keys(
        [P + "m.q.lora_A.default.weight", P + "m.q.lora_B.default.weight", P + "m.q.lora_B.default.bias",
         P + "m.e.lora_embedding_A.my-task", P + "m.q.lora_magnitude_vector.default.weight"]
    )  # fmt: skip
    assert [(part.module, part.kind) for part in parts] == [
        ("m.q", "lora_A"), ("m.q", "lora_B"), ("m.q", "lora_bias"), ("m.e", "embedding_A"), ("m.q", "magnitude"),
    ]  # fmt: skip
    assert adapter_names(part.name for part in parts) == {"default", "my-task"}
    assert (
        adapter_names([P + "m.q.lora_A.weight", P + "m.e.lora_embedding_A", P + "m.q.lora_magnitude_vector"]) == set()
    )


def test_what_peft_saves_three_times_with_trained_biases_is_used_once():
    """Of a whole module with a submodule: the plain name, the wrapper's own copy, and the base's."""
    names = ["classifier.dense.bias", "classifier.modules_to_save.default.dense.bias",
             "classifier.original_module.dense.bias"]  # fmt: skip
    parts = parse_keys([P + name for name in names], bias="all", modules_to_save=["classifier"])
    assert [part.kind for part in parts] == ["modules_to_save", "unused", "unused"]
    assert parse_keys([P + names[1]])[0].kind == "modules_to_save", "where it stands alone, it counts"
