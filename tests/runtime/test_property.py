"""Random configs, compared with PEFT: whatever it can train, we compute as it does, dense and 4-bit."""

from __future__ import annotations

import peft
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hub.runtime import load
from tests.runtime import support
from tests.runtime.support import load_model, logits, relative_error, write_adapter

TARGETS = support.targets_of("llama")
PLACES = ["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj", r"layers\.0\.self_attn\.q_proj"]


@st.composite
def configs(draw) -> dict[str, object]:
    """Return a LoraConfig's settings, in any combination that PEFT accepts."""
    config: dict[str, object] = {
        "r": draw(st.integers(1, 9)),
        "lora_alpha": draw(st.integers(1, 33)),
        "target_modules": draw(st.lists(st.sampled_from([*TARGETS, "lm_head"]), min_size=1, unique=True)),
        "use_rslora": draw(st.booleans()),
        "rank_pattern": draw(st.dictionaries(st.sampled_from(PLACES), st.integers(1, 7), max_size=2)),
        "alpha_pattern": draw(st.dictionaries(st.sampled_from(PLACES), st.integers(1, 40), max_size=2)),
        "use_dora": draw(st.booleans()),
    }
    if draw(st.booleans()):
        config["trainable_token_indices"] = draw(st.lists(st.integers(0, 95), min_size=1, max_size=5, unique=True))
    if not config["use_dora"]:
        config["lora_bias"] = draw(st.booleans())
    if not config.get("lora_bias"):
        config["bias"] = draw(st.sampled_from(["none", "lora_only", "all"]))
    if draw(st.booleans()):
        config["modules_to_save"] = draw(st.sampled_from([["norm"], ["input_layernorm"]]))
    return config


def check(kind, quantize, config, bases, folder, seed) -> None:
    """Compare generated tokens with PEFT's, and logits: of a dense base in float64, of a 4-bit one as it is.

    Float32 PEFT itself is up to 2e-4 from float64 where a model is steep, so that there two right answers can be
    further apart than the bound; in float64 nothing but a wrong answer is.
    """
    compare(kind, quantize, config, bases, folder, seed, wide=quantize is None)


def check_as_it_runs(kind, quantize, config, bases, folder, seed) -> None:
    """The same with the base as it is, dense or not."""
    compare(kind, quantize, config, bases, folder, seed, wide=False)


def compare(kind, quantize, config, bases, folder, seed, *, wide) -> None:
    base = bases(kind)
    adapter = write_adapter(base, folder / f"a{seed}", seed=seed, **config)
    model = load_model(base, adapter, quantize=quantize)
    oracle = peft.PeftModel.from_pretrained(support.open_base(base, quantize), adapter).eval()
    options = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    ours = model.generate(input_ids=support.TOKENS[:1], **options)
    assert torch.equal(ours, oracle.generate(input_ids=support.TOKENS[:1], **options)), config
    if wide:
        model, oracle = load(support.open_base(base).double(), adapter), oracle.double()
    assert relative_error(logits(model), logits(oracle)) <= 1e-5, config


def _settings(count: int):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_random_configs_say_what_peft_says(quantize, bases, tmp_path_factory):
    seeds = iter(range(1000))

    @_settings(8)
    @given(config=configs())
    def run(config):
        check_as_it_runs("biased-llama", quantize, config, bases, tmp_path_factory.mktemp("p"), next(seeds))

    run()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["biased-llama", "phi", "qwen2", "gemma", "tied-llama"])
@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_many_random_configs_say_what_peft_says(kind, quantize, bases, tmp_path_factory):
    seeds = iter(range(1000))
    targets = support.targets_of(kind)

    @_settings(25)
    @given(config=configs())
    def run(config):
        chosen = [name for name in config["target_modules"] if name in targets] or targets[:2]
        fitting = config | {"target_modules": chosen}
        if kind != "biased-llama":
            fitting = {k: v for k, v in fitting.items() if k not in ("bias", "lora_bias", "modules_to_save")}
        check(kind, quantize, fitting, bases, tmp_path_factory.mktemp("p"), next(seeds))

    run()
