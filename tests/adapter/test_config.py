"""adapter_config.json is read as PEFT reads it, and refused by the field's name where it can't be."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from peft import LoraConfig as PeftLoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils.other import get_pattern_key

from hub.adapter.config import MAX_RANK, LoraConfig
from hub.adapter.config_fields import COMPUTED, PLACEMENT, PLUMBING, REFUSED, TRAINING
from hub.base.blueprint import ModuleShape
from hub.errors import InvalidAdapter
from hub.fit.placement import targeted
from tests.support.peft_folders import VARIANTS, train

FIELDS = sorted(PeftLoraConfig().to_dict())
MINIMAL = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}


def read(**fields):
    return LoraConfig.parse(json.dumps(MINIMAL | fields).encode())


@pytest.mark.parametrize("variant", VARIANTS)
def test_rank_alpha_and_scaling_are_those_of_the_layers_that_peft_builds(variant, tmp_path):
    trained = train(variant, tmp_path)
    config = LoraConfig.parse((tmp_path / "adapter_config.json").read_bytes())
    layers = {
        name: module for name, module in trained.model.base_model.model.named_modules() if isinstance(module, LoraLayer)
    }
    assert layers
    for name, layer in layers.items():
        assert config.rank_for(name) == layer.r["default"], name
        assert config.alpha_for(name) == layer.lora_alpha["default"], name
        assert config.scaling_for(name) == layer.scaling["default"], name
    assert config.effective_rank >= max(layer.r["default"] for layer in layers.values())


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_peft_saves_is_supported_and_publishable(variant, tmp_path):
    train(variant, tmp_path)
    config = LoraConfig.parse((tmp_path / "adapter_config.json").read_bytes())
    assert config.unsupported() == ()
    assert config.forbidden() == ()


SEGMENTS = st.sampled_from(
    ["model", "layers", "h", "0", "1", "11", "self_attn", "q_proj", "k_proj", "mlp", "fc-1", "x"]
)
NAMES = st.lists(SEGMENTS, min_size=1, max_size=6).map(".".join)
PLAIN_KEYS = st.builds(
    lambda name, anchor, end, escape: anchor + (name.replace(".", r"\.") if escape else name) + end,
    NAMES, st.sampled_from(["", "^"]), st.sampled_from(["", "$"]), st.booleans(),
)  # fmt: skip
REGEX_KEYS = st.sampled_from(
    [".*q_proj", r"layers\.\d+\.self_attn", "(q|k)_proj", ".", "..", ".*", "[01]", r"h\.[0-9]+\..*", "model.*mlp", "x?"]
)
KEYS = PLAIN_KEYS | REGEX_KEYS


@settings(max_examples=300, deadline=None)
@given(
    module=NAMES,
    ranks=st.dictionaries(KEYS, st.integers(1, 256), max_size=6),
    alphas=st.dictionaries(KEYS, st.integers(1, 256) | st.floats(0.5, 64), max_size=6),
    rank=st.integers(1, 512),
    alpha=st.integers(0, 512),
    rslora=st.booleans(),
)
@example(module="a_q_proj", ranks={"a.q_proj": 3}, alphas={}, rank=8, alpha=1, rslora=False)  # '.' is any character
@example(module="aXq_proj", ranks={r"a\.q_proj": 3}, alphas={}, rank=8, alpha=1, rslora=False)
@example(module="m.q_proj", ranks={"^q_proj": 3, "q_proj": 5}, alphas={}, rank=8, alpha=1, rslora=False)
def test_any_patterns_mean_what_they_mean_to_peft(module, ranks, alphas, rank, alpha, rslora):
    theirs = PeftLoraConfig(r=rank, lora_alpha=alpha, rank_pattern=ranks, alpha_pattern=alphas, use_rslora=rslora)
    ours = read(r=rank, lora_alpha=alpha, rank_pattern=ranks, alpha_pattern=alphas, use_rslora=rslora)
    # The two lines of LoraModel._create_and_replace, and the scaling of LoraLayer.update_layer.
    expected_rank = theirs.rank_pattern.get(get_pattern_key(theirs.rank_pattern.keys(), module), theirs.r)
    expected_alpha = theirs.alpha_pattern.get(get_pattern_key(theirs.alpha_pattern.keys(), module), theirs.lora_alpha)
    assert ours.rank_for(module) == expected_rank
    assert ours.alpha_for(module) == expected_alpha
    divisor = math.sqrt(expected_rank) if rslora else expected_rank
    assert ours.scaling_for(module) == expected_alpha / divisor
    assert ours.effective_rank == max([rank, *ranks.values()])


@settings(max_examples=300, deadline=None)
@given(
    module=NAMES,
    targets=st.lists(NAMES, min_size=1, max_size=4) | st.sampled_from([r".*\.(q|k)_proj", r"model\.layers\.\d+\..*"]),
    excluded=st.none() | st.lists(NAMES, max_size=2) | st.just(r".*\.0\..*"),
    layers=st.none() | st.integers(0, 2) | st.lists(st.integers(0, 12), max_size=3),
    pattern=st.none() | st.just("layers") | st.just(["h", "layers"]),
    saved=st.none() | st.lists(SEGMENTS, min_size=1, max_size=2),
)
def test_any_placement_means_what_it_means_to_peft(module, targets, excluded, layers, pattern, saved):
    from peft.tuners.tuners_utils import _ExcludedModule, check_target_module_exists

    if isinstance(targets, str) or layers is None:
        layers, pattern = (None, None) if isinstance(targets, str) else (layers, None)
    if pattern and layers is None:
        pattern = None
    fields = {"target_modules": targets, "exclude_modules": excluded, "layers_to_transform": layers,
              "layers_pattern": pattern, "modules_to_save": saved}  # fmt: skip
    if layers == [] and pattern:
        return  # PEFT takes it, and means nothing by it
    if any(f"{name}." in f"{module}." for name in saved or ()):
        return  # PEFT stores it whole, and raises TypeError where it is targeted too: tests/fit/test_saved_modules.py
    found = check_target_module_exists(PeftLoraConfig(**fields), module)
    expected = bool(found) and not isinstance(found, _ExcludedModule)
    assert targeted(read(**fields), {module: ModuleShape("linear", 1, 1)}) == ([module] if expected else [])


def test_defaults_are_those_of_peft():
    ours, theirs = LoraConfig.from_json({"peft_type": "LORA"}), PeftLoraConfig()
    assert (ours.rank, ours.alpha, ours.bias, ours.use_rslora, ours.use_dora) == (
        theirs.r, theirs.lora_alpha, theirs.bias, theirs.use_rslora, theirs.use_dora,
    )  # fmt: skip


def test_every_field_of_peft_has_a_meaning_here():
    known = COMPUTED | PLACEMENT | TRAINING | PLUMBING | set(REFUSED)
    assert set(PeftLoraConfig().to_dict()) <= known


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"layer_replication": [[0, 2], [1, 3]]}, "layer_replication"),
        ({"target_parameters": ["mlp.experts.gate_up_proj"]}, "target_parameters"),
        ({"ensure_weight_tying": True, "target_modules": ["q_proj", "model.embed_tokens"]}, "ensure_weight_tying"),
        ({"ensure_weight_tying": True, "target_modules": "(q_proj|lm_head)"}, "ensure_weight_tying"),
        ({"ensure_weight_tying": True, "modules_to_save": ["lm_head"]}, "ensure_weight_tying"),
        ({"alora_invocation_tokens": [1, 2]}, "alora_invocation_tokens"),
        ({"use_qalora": True}, "use_qalora"),
        ({"use_bdlora": {"nblocks": 2}}, "use_bdlora"),
        ({"arrow_config": {"top_k": 3}}, "arrow_config"),
        ({"kasa_config": {"beta": 1e-4}}, "kasa_config"),
        ({"monteclora_config": {"num_samples": 8}}, "monteclora_config"),
        ({"megatron_config": {"hidden_size": 8}}, "megatron_config"),
        ({"enable_lora": [True, False, True]}, "enable_lora"),
        ({"init_lora_weights": "pissa"}, "init_lora_weights"),
        ({"init_lora_weights": "pissa_niter_16"}, "init_lora_weights"),
        ({"init_lora_weights": "olora"}, "init_lora_weights"),
        ({"init_lora_weights": "corda"}, "init_lora_weights"),
        ({"init_lora_weights": "lora_ga"}, "init_lora_weights"),
        ({"init_lora_weights": "loftq"}, "init_lora_weights"),
        ({"init_lora_weights": "of-tomorrow"}, "init_lora_weights"),
    ],
)
def test_a_field_that_we_do_not_compute_is_named(fields, named):
    found = read(**fields).unsupported()
    assert [field.name for field in found] == [named]
    assert found[0].why


@pytest.mark.parametrize(
    "fields",
    [
        {"lora_dropout": 0.1, "init_lora_weights": "gaussian"},
        {"init_lora_weights": "eva", "eva_config": {"rho": 2.0}},
        {"init_lora_weights": "orthogonal"},
        {"init_lora_weights": False},
        {"loftq_config": {"loftq_bits": 4}, "velora_config": {"rank": 1}, "corda_config": {"verbose": True}},
        {"megatron_core": "megatron.core", "qalora_group_size": 16},
        {"use_quantum_lora": False, "future_config": None, "future_list": [], "future_map": {}},
        {"auto_mapping": {"base_model_class": "LlamaForCausalLM"}},
        {"ensure_weight_tying": True},
        {"ensure_weight_tying": True, "target_modules": "all-linear", "trainable_token_indices": [3]},
    ],
)
def test_a_field_that_does_not_change_the_result_is_ignored(fields):
    assert read(**fields).unsupported() == ()


def test_a_field_that_nobody_knows_is_told_and_changes_nothing():
    config = read(use_quantum_lora=True, future_config={"strength": 2}, future_list=[], r=4)
    assert config.unknown() == ("use_quantum_lora", "future_config")
    assert config.unsupported() == config.forbidden() == ()


@pytest.mark.parametrize("library", ["transformers.models.vit.modeling_vit", "unsloth.models.llama", "peft"])
def test_auto_mapping_of_a_known_library_is_recorded_and_not_followed(library):
    config = read(auto_mapping={"base_model_class": "ViTForImageClassification", "parent_library": library})
    assert config.unsupported() == config.forbidden() == ()
    assert config.raw["auto_mapping"]["parent_library"] == library


@pytest.mark.parametrize(
    "mapping", ["x", {"base_model_class": "X"}, {"parent_library": None}, {"parent_library": "os"}]
)
def test_auto_mapping_of_anything_else_is_never_published(mapping):
    assert [field.name for field in read(auto_mapping=mapping).forbidden()] == ["auto_mapping"]


def test_an_adapter_of_mlx_is_told_by_its_config():
    payload = {"fine_tune_type": "lora", "lora_parameters": {"rank": 8, "scale": 20.0}, "num_layers": 16}
    with pytest.raises(InvalidAdapter, match=r"mlx-lm.*train it with PEFT"):
        LoraConfig.from_json(payload)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"auto_mapping": {"base_model_class": "Evil", "parent_library": "evil"}}, "auto_mapping"),
        ({"auto_map": {"AutoModel": "evil--evil.Evil"}}, "auto_map"),
        ({"megatron_config": {"a": 1}}, "megatron_config"),
        ({"megatron_core": "evil.module"}, "megatron_core"),
        ({"megatron_anything": 1}, "megatron_anything"),
        ({"layer_replication": [[0, 1]]}, "layer_replication"),
    ],
)
def test_a_field_that_makes_loaders_import_or_rebuild_is_never_published(fields, named):
    assert [field.name for field in read(**fields).forbidden()] == [named]


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"r": 0}, "r "),
        ({"r": -1}, "r "),
        ({"r": MAX_RANK + 1}, "r "),
        ({"r": 8.5}, "r "),
        ({"r": True}, "r "),
        ({"r": "8"}, "r "),
        ({"r": None}, "r "),
        ({"lora_alpha": "16"}, "lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"use_rslora": "yes"}, "use_rslora"),
        ({"bias": "some"}, "bias"),
        ({"peft_type": "IA3"}, "peft_type"),
        ({"peft_type": None}, "peft_type"),
        ({"rank_pattern": {"q_proj": 0}}, "rank_pattern"),
        ({"rank_pattern": {"q_proj": "4"}}, "rank_pattern"),
        ({"rank_pattern": ["q_proj"]}, "rank_pattern"),
        ({"rank_pattern": {r"([\w.]+)+!": 4}}, "rank_pattern"),
        ({"alpha_pattern": {r"(a|a)*": 4}}, "alpha_pattern"),
        ({"alpha_pattern": {"q_proj": None}}, "alpha_pattern"),
        ({"target_modules": r"([\w.]+)+!"}, "target_modules"),
        ({"target_modules": [1]}, "target_modules"),
        ({"target_modules": [""]}, "target_modules"),
        ({"target_modules": {"q_proj": 1}}, "target_modules"),
        ({"exclude_modules": "(x+x+)+y"}, "exclude_modules"),
        ({"rank_pattern": {r".*a.*b.*": 4}}, "rank_pattern"),
        ({"rank_pattern": {f"(a|b){n}x*": 4 for n in range(300)}}, "rank_pattern"),
        ({"alpha_pattern": {"(a|b)" * 300 + str(n): 4 for n in range(20)}}, "alpha_pattern"),
        ({"modules_to_save": ["(a|a)*b"]}, "modules_to_save"),
        ({"modules_to_save": ["a"] * 101}, "modules_to_save"),
        ({"trainable_token_indices": {f"m{n}": [1] for n in range(101)}}, "trainable_token_indices"),
        ({"layers_pattern": ["(.*)*"], "layers_to_transform": [1]}, "layers_pattern"),
        ({"layers_pattern": "layers"}, "layers_pattern"),
        ({"layers_to_transform": [-1]}, "layers_to_transform"),
        ({"layers_to_transform": ["0"]}, "layers_to_transform"),
        ({"target_modules": ".*q", "layers_to_transform": [1]}, "layers_to_transform"),
        ({"trainable_token_indices": [1.5]}, "trainable_token_indices"),
        ({"trainable_token_indices": {"a b": [1]}}, "trainable_token_indices"),
        ({"trainable_token_indices": "1,2"}, "trainable_token_indices"),
        ({"base_model_name_or_path": "a\nb"}, "base_model_name_or_path"),
        ({"base_model_name_or_path": 7}, "base_model_name_or_path"),
        ({"task_type": "x" * 501}, "task_type"),
        ({"lora_bias": True, "use_dora": True}, "lora_bias"),
    ],
)
def test_a_bad_value_is_refused_by_the_fields_name(fields, named):
    with pytest.raises(InvalidAdapter, match=f"adapter_config.json: {re.escape(named)}") as caught:
        read(**fields)
    assert caught.value.message.endswith(".")
    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is not JSON"),
        (b"[]", "not a JSON object"),
        (b"{", "is not JSON"),
        (b'{"r": 8, "r": 16}', "'r' twice"),
        (b'{"r": NaN}', "NaN"),
        (b'{"r": 1e999}', "too large"),
        (b'{"r": 99999999999999999999}', "not every reader"),
        (b'{"x": "\\ud800"}', "Unicode"),
        (b"\xff\xfe{}", "UTF-8"),
        (b"[" * 20_000, "levels"),
        (b"[" * 200_000, "values"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "levels"),
        (b'{"x": [' + b"1," * 200_000 + b"1]}", "values"),
        (b'{"x": "' + b"y" * 2_000_000 + b'"}', "bytes"),
    ],
)
def test_a_text_that_is_not_json_with_one_meaning_is_refused(data, message):
    with pytest.raises(InvalidAdapter, match=message):
        LoraConfig.parse(data)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(FIELDS), inner),
    max_leaves=20,
)
NEARLY_CONFIGS = st.dictionaries(st.sampled_from(FIELDS), JSON_VALUES, max_size=3).map(lambda more: MINIMAL | more)
"""One field or a few are anything, the others are sound: some of these are read."""


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | (JSON_VALUES | NEARLY_CONFIGS).map(lambda value: json.dumps(value).encode()))
@example(json.dumps(MINIMAL).encode())
def test_any_bytes_are_read_or_refused_and_nothing_else(data):
    try:
        config = LoraConfig.parse(data)
    except InvalidAdapter:
        return
    assert config.raw == json.loads(data)
    assert LoraConfig.parse(json.dumps(config.raw).encode()) == config
    assert 1 <= config.rank <= config.effective_rank <= MAX_RANK
    assert math.isfinite(config.alpha)


def test_a_bare_list_of_tokens_means_the_input_embedding():
    assert read(trainable_token_indices=[3, 1]).trainable_token_indices == {"embed_tokens": (3, 1)}
    assert read(trainable_token_indices={"wte": [3]}).trainable_token_indices == {"wte": (3,)}


def test_a_thousand_patterns_cost_a_name_about_as_much_as_ten(benchmark_ratio):
    many = read(rank_pattern={f"model.layers.{n // 10}.self_attn.m{n % 10}_proj": 4 for n in range(1000)})
    few = read(rank_pattern={f"model.layers.{n}.self_attn.q_proj": 4 for n in range(10)})
    names = [f"model.layers.{n}.self_attn.q_proj" for n in range(50)]
    assert benchmark_ratio(lambda: [many.rank_for(n) for n in names], lambda: [few.rank_for(n) for n in names]) < 20


@pytest.mark.parametrize(
    "method", [{}, {"use_rslora": True}, {"use_dora": True}, {"use_dora": True, "use_rslora": True}]
)
def test_the_method_is_named(method):
    expected = "+".join(n for n, k in (("dora", "use_dora"), ("rslora", "use_rslora")) if method.get(k)) or "lora"
    assert read(**method).method == expected
