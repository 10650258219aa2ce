"""The summary prints what PEFT prints, from an adapter's headers or from two configs alone."""

from __future__ import annotations

import pytest
from peft import LoraConfig as PeftLoraConfig
from peft import get_peft_model
from transformers import AutoModelForSequenceClassification

from hub.adapter.config import LoraConfig
from hub.adapter.files import build_manifest, inspect_adapter, scan_folder
from hub.base.spec import BaseSpec
from hub.errors import InvalidRequest
from hub.fit.parameters import summarize
from tests.base.test_architectures import LLAMA_2_7B
from tests.support.models import config_json, quiet, tiny_config
from tests.support.peft_folders import VARIANTS, train


def base_of(name):
    return BaseSpec.from_config(config_json(tiny_config(name)))


def peft_line(model, capsys):
    capsys.readouterr()
    model.print_trainable_parameters()
    return capsys.readouterr().out.strip()


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_line_is_pefts_whether_counted_or_planned(variant, tmp_path, capsys):
    trained = train(variant, tmp_path)
    expected = peft_line(trained.model, capsys)
    base, manifest = base_of(trained.base), build_manifest(tmp_path)
    assert summarize(manifest, base).line() == expected
    assert summarize(LoraConfig.from_json(manifest.config), base).line() == expected


@pytest.mark.parametrize("variant", VARIANTS)
def test_both_tables_add_up_to_the_line(variant, tmp_path):
    trained = train(variant, tmp_path)
    for adapter in (build_manifest(tmp_path), inspect_adapter(scan_folder(tmp_path).readables())):
        summary = summarize(adapter, base_of(trained.base))
        assert sum(row.parameters for row in summary.by_kind()) == summary.trainable
        assert sum(row.parameters for row in summary.by_layer()) == summary.trainable


LAYERS, WIDTH, RANK, BASE_PARAMETERS = 32, 4096, 8, 6_738_415_616
"""Llama-2-7B: every attention projection is WIDTH x WIDTH, so one LoRA pair has RANK * (WIDTH + WIDTH) parameters."""


def lora_on(*targets):
    return LoraConfig.from_json({"peft_type": "LORA", "r": RANK, "lora_alpha": 16, "target_modules": list(targets)})


def test_rank_8_on_q_and_v_of_llama_2_7b_prints_the_well_known_line():
    trainable = LAYERS * 2 * RANK * (WIDTH + WIDTH)
    summary = summarize(lora_on("q_proj", "v_proj"), BaseSpec.from_config(LLAMA_2_7B))
    assert (summary.trainable, summary.total) == (trainable, BASE_PARAMETERS + trainable)
    assert summary.line() == "trainable params: 4,194,304 || all params: 6,742,609,920 || trainable%: 0.0622"


def test_rank_8_on_all_four_projections_is_twice_as_many():
    """4,194,304 is often printed beside q, k, v and o.  It is the count for two projections: four have twice as many.

    The mistake shows in the old line itself, whose total is the base and 4,194,304, that is 32 layers x 2 projections.
    """
    trainable = LAYERS * 4 * RANK * (WIDTH + WIDTH)
    summary = summarize(lora_on("q_proj", "k_proj", "v_proj", "o_proj"), BaseSpec.from_config(LLAMA_2_7B))
    assert summary.trainable == trainable == 8_388_608
    assert summary.line() == "trainable params: 8,388,608 || all params: 6,746,804,224 || trainable%: 0.1243"
    assert 6_742_609_920 - BASE_PARAMETERS == LAYERS * 2 * RANK * (WIDTH + WIDTH) != trainable


def test_the_tables_say_where_the_parameters_are():
    summary = summarize(lora_on("q_proj", "v_proj", "down_proj"), BaseSpec.from_config(LLAMA_2_7B))
    down = LAYERS * RANK * (11008 + WIDTH)
    assert [(row.name, row.modules, row.ranks, row.parameters) for row in summary.by_kind()] == [
        ("down_proj", 32, (8,), down),
        ("q_proj", 32, (8,), LAYERS * RANK * 2 * WIDTH),
        ("v_proj", 32, (8,), LAYERS * RANK * 2 * WIDTH),
    ]
    assert len(summary.by_layer()) == LAYERS
    text = summary.table()
    assert "layers 0-31" in text
    assert len(text.splitlines()) == 4 + 1 + 2


def test_without_a_base_the_total_is_unknown(tmp_path):
    train("lora", tmp_path)
    assert summarize(build_manifest(tmp_path)).line() == (
        "trainable params: 1,792 || all params: unknown without a base"
    ).replace("1,792", f"{2 * 4 * ((64 + 64) + (64 + 32)):,}")


def test_a_classifier_on_a_causal_base_is_counted_as_peft_wraps_it(tmp_path, capsys):
    with quiet():
        model = get_peft_model(
            AutoModelForSequenceClassification.from_config(tiny_config("llama")),
            PeftLoraConfig(r=4, target_modules=["q_proj"], task_type="SEQ_CLS"),
        )
        model.save_pretrained(tmp_path)
    assert summarize(build_manifest(tmp_path), base_of("llama")).line() == peft_line(model, capsys)


def test_an_untrained_factor_is_not_counted_as_trained(tmp_path, capsys):
    trained = train("lora", tmp_path, init_lora_weights="mica")
    line = peft_line(trained.model, capsys)
    assert summarize(build_manifest(tmp_path), base_of("llama")).line() == line


def test_a_config_that_matches_nothing_names_what_the_base_has():
    with pytest.raises(InvalidRequest, match=r"\['c_attn'\] matches no module of this LlamaForCausalLM.*q_proj"):
        summarize(lora_on("c_attn"), BaseSpec.from_config(LLAMA_2_7B))


def test_a_config_without_a_base_asks_for_one():
    with pytest.raises(InvalidRequest, match="Name the base model"):
        summarize(lora_on("q_proj"))


def test_json_says_what_the_line_says():
    summary = summarize(lora_on("q_proj"), BaseSpec.from_config(LLAMA_2_7B))
    payload = summary.to_json()
    assert payload["line"] == summary.line()
    assert sum(row["parameters"] for row in payload["by_layer"]) == payload["trainable"]
