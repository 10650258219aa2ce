"""Shapes computed from config.json alone are those of the models that transformers builds."""

from __future__ import annotations

import pytest
from torch import nn
from transformers.pytorch_utils import Conv1D

from hub.base.architectures import ARCHITECTURES, blueprint
from hub.errors import InvalidRequest, Unsupported
from tests.support.models import TINY_CONFIGS, config_json, meta_model, tiny_config

LLAMA_2_7B = {
    "architectures": ["LlamaForCausalLM"],
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.02,
    "intermediate_size": 11008,
    "max_position_embeddings": 4096,
    "model_type": "llama",
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "pretraining_tp": 1,
    "rms_norm_eps": 1e-05,
    "rope_scaling": None,
    "tie_word_embeddings": False,
    "torch_dtype": "float16",
    "use_cache": True,
    "vocab_size": 32000,
}
"""config.json of Llama-2-7B, as Meta published it."""


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_names_and_shapes_equal_those_of_transformers(name):
    model = meta_model(name)
    plan = blueprint(config_json(tiny_config(name)))
    assert plan.tensors == {key: tuple(tensor.shape) for key, tensor in model.named_parameters()}


@pytest.mark.parametrize("name", TINY_CONFIGS)
def test_modules_are_those_that_peft_can_target(name):
    model = meta_model(name)
    found = {}
    for key, module in model.named_modules():
        if isinstance(module, nn.Linear):
            found[key] = ("linear", module.in_features, module.out_features)
        elif isinstance(module, nn.Embedding):
            found[key] = ("embedding", module.num_embeddings, module.embedding_dim)
        elif isinstance(module, Conv1D):
            found[key] = ("conv1d", *module.weight.shape)
    modules = blueprint(config_json(tiny_config(name))).modules
    assert {key: (m.kind, m.in_features, m.out_features) for key, m in modules.items()} == found


def test_every_table_is_compared_with_transformers():
    assert {name.partition("-")[0] for name in TINY_CONFIGS} == set(ARCHITECTURES)


def test_llama_2_7b_has_the_parameters_that_its_formula_gives():
    width, inner, layers, vocabulary = 4096, 11008, 32, 32000
    per_layer = 4 * width * width + 3 * width * inner + 2 * width
    expected = 2 * vocabulary * width + layers * per_layer + width
    shapes = blueprint(LLAMA_2_7B).tensors.values()
    assert sum(a * (b[0] if b else 1) for a, *b in shapes) == expected == 6_738_415_616


def test_a_classifier_has_a_score_instead_of_an_output_layer():
    config = config_json(tiny_config("llama"), "LlamaForSequenceClassification") | {
        "id2label": {"0": "a", "1": "b", "2": "c"}
    }
    plan = blueprint(config)
    assert plan.tensors["score.weight"] == (3, 64)
    assert "lm_head.weight" not in plan.tensors


def test_a_bare_model_has_no_prefix_and_no_head():
    plan = blueprint(config_json(tiny_config("llama"), "LlamaModel"))
    assert "layers.0.self_attn.q_proj.weight" in plan.tensors
    assert "lm_head" not in plan.modules


def test_an_unknown_architecture_is_refused_by_name_with_the_next_step():
    with pytest.raises(Unsupported, match=r"'mamba' models.*Give the model's folder"):
        blueprint({"model_type": "mamba"})


@pytest.mark.parametrize("value", [0, -1, "64", 1.5, True, 2**40, None])
def test_a_size_that_is_no_size_is_refused_by_name(value):
    with pytest.raises(InvalidRequest, match="hidden_size"):
        blueprint(LLAMA_2_7B | {"hidden_size": value})


def test_a_config_with_a_billion_layers_is_refused_at_once():
    with pytest.raises(InvalidRequest, match="num_hidden_layers"):
        blueprint(LLAMA_2_7B | {"num_hidden_layers": 10**9})
