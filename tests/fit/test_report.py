"""Whether an adapter fits a base is said in findings: each with what, which and the next step, in under 15 lines."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file

from hub.adapter.content import AdapterContent
from hub.adapter.files import build_manifest, inspect_adapter, scan_folder
from hub.adapter.weight_scan import scan_weights
from hub.base.spec import BaseSpec
from hub.errors import Incompatible, Unsupported
from hub.fit.report import MAX_LINES, check
from hub.formats.readable import LocalFile
from hub.formats.safetensors_header import read_header
from hub.manifest import BaseIdentity
from tests.support.adapters import write_adapter
from tests.support.models import config_json, quiet, tiny_config, tiny_model
from tests.support.peft_folders import VARIANTS, train


def spec_of(name, **changes):
    return BaseSpec.from_config(config_json(tiny_config(name)) | changes)


def changed(folder, fields=None, weights=None):
    """Change a folder's config and weights in place; return its content."""
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | (fields or {})))
    if weights:
        file = folder / "adapter_model.safetensors"
        save_file(weights(load_file(file)), file, metadata={"format": "pt"})
    return inspect_adapter(scan_folder(folder).readables())


@pytest.mark.parametrize("variant", VARIANTS)
def test_an_adapter_fits_the_base_that_it_was_trained_on(variant, tmp_path):
    trained = train(variant, tmp_path)
    report = check(build_manifest(tmp_path), spec_of(trained.base))
    assert report.ok, str(report)
    assert report.warnings == ()
    assert {finding.code for finding in report.findings} == {"architecture", "modules", "base"}


@pytest.mark.parametrize("variant", ["lora", "patterns", "dora", "lora-bias", "bias-all", "modules-to-save", "tokens"])
def test_an_adapter_of_another_architecture_is_refused_as_that(variant, tmp_path):
    train(variant, tmp_path)
    report = check(build_manifest(tmp_path), spec_of("gpt2"))
    found = report.find("architecture")
    assert found is not None
    assert (found.level, report.ok) == ("error", False)
    assert "No module of the adapter is in this" in found.what
    assert "transformer.wte" in found.next_step


def test_an_adapter_of_a_deeper_model_names_the_missing_modules(tmp_path):
    train("all-linear", tmp_path)
    report = check(build_manifest(tmp_path), spec_of("llama", num_hidden_layers=1))
    found = report.find("modules")
    assert found is not None
    assert found.which == tuple(sorted(f"model.layers.1.{m}" for m in LINEARS))
    assert "7 of the adapter's 14 modules" in found.what
    assert "and 4 more" in found.line()


LINEARS = [f"self_attn.{n}_proj" for n in "qkvo"] + [f"mlp.{n}_proj" for n in ("gate", "up", "down")]


def test_an_adapter_of_a_shallower_model_names_the_modules_without_weights(tmp_path):
    train("lora", tmp_path)
    report = check(build_manifest(tmp_path), spec_of("llama", num_hidden_layers=4))
    found = report.find("untrained")
    assert found is not None
    assert found.which == tuple(f"model.layers.{layer}.self_attn.{n}_proj" for layer in (2, 3) for n in "qv")
    assert not report.ok


def test_another_size_names_the_shapes(tmp_path):
    train("all-linear", tmp_path)
    report = check(build_manifest(tmp_path), spec_of("llama", intermediate_size=96))
    found = report.find("shapes")
    assert found is not None
    assert sorted({which.partition(" ")[0] for which in found.which}) == sorted(
        f"model.layers.{layer}.mlp.{n}_proj" for layer in (0, 1) for n in ("gate", "up", "down")
    )
    assert "lora_B has 80, the base 96" in " ".join(found.which)


@pytest.mark.parametrize("variant", ["embedding", "embedding-and-head", "modules-to-save", "modules-to-save-tied"])
def test_another_vocabulary_is_named_as_that(variant, tmp_path):
    trained = train(variant, tmp_path)
    report = check(build_manifest(tmp_path), spec_of(trained.base, vocab_size=128))
    found = report.find("vocabulary")
    assert found is not None, str(report)
    assert report.find("shapes") is None
    assert "tokenizer" in found.next_step


def test_a_trained_token_beyond_the_vocabulary_is_named(tmp_path):
    train("tokens", tmp_path)
    report = check(build_manifest(tmp_path), spec_of("llama", vocab_size=90))
    found = report.find("vocabulary")
    assert found is not None
    assert "token 90 is trained, the base has 90" in found.which[0]


def test_ranks_that_contradict_the_config_are_named(tmp_path):
    train("lora", tmp_path)
    report = check(changed(tmp_path, {"r": 8}), spec_of("llama"))
    found = report.find("rank")
    assert found is not None
    assert "rank 4 in A and 4 in B, but the config says 8" in found.which[0]


def test_a_missing_half_of_a_pair_is_named(tmp_path):
    train("lora", tmp_path)
    content = changed(tmp_path, weights=lambda w: dict(sorted(w.items())[1:]))
    found = check(content, spec_of("llama")).find("content")
    assert found is not None
    assert "has no lora_A" in found.which[0]


def test_an_unsupported_field_points_to_peft_by_path(tmp_path):
    train("lora", tmp_path)
    report = check(changed(tmp_path, {"use_qalora": True}), spec_of("llama"), source="task/qa")
    found = report.find("unsupported")
    assert found is not None
    assert found.which == ("use_qalora (QALoRA pools the input before A)",)
    assert "PeftModel.from_pretrained(task/qa)" in found.next_step
    with pytest.raises(Unsupported, match="use_qalora"):
        report.raise_if_bad()


def test_a_convolution_is_of_a_kind_that_is_not_adapted(tmp_path):
    train("lora", tmp_path)
    content = changed(tmp_path, weights=lambda w: {k: t[..., None, None] if "lora_" in k else t for k, t in w.items()})
    found = check(content, spec_of("llama")).find("unsupported")
    assert found is not None
    assert "dimensions" in found.which[0]


def test_a_norm_is_of_a_kind_that_is_not_adapted(tmp_path):
    train("lora", tmp_path)
    content = changed(
        tmp_path, weights=lambda w: {k.replace("layers.0.self_attn.q_proj", "norm"): t for k, t in w.items()}
    )
    found = check(content, spec_of("llama")).find("unsupported")
    assert found is not None
    assert found.which[0].startswith("model.norm")


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    with quiet():
        tiny_model("llama").save_pretrained(root / "original")
        tiny_model("llama", dtype=torch.bfloat16).save_pretrained(root / "cast")
        tiny_model("llama", seed=1).save_pretrained(root / "tuned")
        tiny_model("llama-wide").save_pretrained(root / "other")
    return {path.name: BaseSpec.from_folder(path) for path in root.iterdir()}


def recorded_on(folder, spec):
    return build_manifest(folder, spec.identity(id="acme/base"))


@pytest.mark.parametrize(
    ("base", "level", "text"),
    [
        ("original", "ok", "has the weights that the adapter was trained on"),
        ("cast", "ok", "is a copy of acme/base in another format"),
        ("tuned", "error", "but other weights"),
        ("other", "error", "is another model than acme/base"),
    ],
)
def test_the_bases_identity_is_compared_by_weights(bases, tmp_path, base, level, text):
    train("lora", tmp_path)
    report = check(recorded_on(tmp_path, bases["original"]), bases[base])
    found = report.find("base")
    assert found is not None
    assert (found.level, text in found.what) == (level, True), found
    assert report.ok == (level == "ok")
    if level == "error":
        assert check(recorded_on(tmp_path, bases["original"]), bases[base], strict=False).ok
        with pytest.raises(Incompatible, match="acme/base"):
            report.raise_if_bad()


def test_a_base_of_another_name_and_unknown_weights_is_a_warning(bases, tmp_path):
    train("lora", tmp_path)
    manifest = build_manifest(tmp_path, BaseIdentity(id="acme/base"))
    assert check(manifest, replace(bases["original"], id="other/thing")).find("base").level == "warning"
    assert check(manifest, replace(bases["original"], id="mirror/Base")).find("base").level == "ok"
    assert check(manifest, bases["original"]).find("base").level == "ok"


def scan_of(folder):
    path = folder / "adapter_model.safetensors"
    return scan_weights(LocalFile(path), read_header(path))


def test_nan_and_zero_weights_are_findings(tmp_path):
    train("lora", tmp_path)

    def spoil(weights):
        names = sorted(weights)
        weights[names[0]][0, 0] = float("nan")
        weights[names[3]].zero_()
        return weights

    content = changed(tmp_path, weights=spoil)
    report = check(content, spec_of("llama"), scan_of(tmp_path))
    assert report.find("weights").which == (sorted(load_file(tmp_path / "adapter_model.safetensors"))[0],)
    assert report.find("weights").level == "error"
    assert report.find("zero").which == ("model.layers.0.self_attn.v_proj",)
    assert report.find("zero").level == "warning"


def test_an_adapter_that_was_never_trained_does_nothing(tmp_path):
    folder = train("lora", tmp_path).folder
    content = changed(folder, weights=lambda w: {k: t * 0 if "lora_B" in k else t for k, t in w.items()})
    found = check(content, spec_of("llama"), scan_of(folder)).find("zero")
    assert "All updates are zero" in found.what


def test_missing_modules_are_a_warning_where_the_files_names_may_not_be_the_models(tmp_path):
    train("lora", tmp_path)
    spec = spec_of("llama")
    modules = {f"text.{name}": module for name, module in spec.modules.items()}
    tensors = {f"text.{name}": tensor for name, tensor in spec.tensors.items()}
    renamed = replace(spec, modules=modules, tensors=tensors, names_from_files=True)
    report = check(build_manifest(tmp_path), renamed)
    assert report.ok
    assert [finding.code for finding in report.warnings] == ["architecture"]


def test_loralibs_names_fit_as_pefts_do(tmp_path):
    train("lora", tmp_path)
    report = check(
        changed(
            tmp_path,
            weights=lambda w: {k.removeprefix("base_model.model.").removesuffix(".weight"): t for k, t in w.items()},
        ),
        spec_of("llama"),
    )
    assert report.ok, str(report)


def test_a_config_of_the_first_peft_is_read(tmp_path):
    train("conv1d", tmp_path)
    old = {
        "base_model_name_or_path": "gpt2",
        "bias": "none",
        "enable_lora": None,
        "fan_in_fan_out": True,
        "inference_mode": True,
        "lora_alpha": 8,
        "lora_dropout": 0.05,
        "merge_weights": False,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": 4,
        "target_modules": ["c_attn", "c_fc"],
        "task_type": "CAUSAL_LM",
    }
    (tmp_path / "adapter_config.json").write_text(json.dumps(old))
    content = changed(tmp_path)
    assert check(content, spec_of("gpt2")).ok
    merged = changed(tmp_path, {"enable_lora": [True, False, True]})
    assert [field.name for field in merged.config.unsupported()] == ["enable_lora"]


def test_a_large_misfit_is_told_in_under_15_lines(tmp_path):
    folder = write_adapter(tmp_path / "big", layers=48, hidden=64, targets=("q_proj", "k_proj", "down_proj"))
    content = changed(folder, {"r": 7, "use_qalora": True, "future": 1})
    report = check(content, spec_of("llama"))
    assert len(str(report).splitlines()) == len(report.lines()) <= MAX_LINES < 15
    assert max(map(len, report.lines())) < 700
    with pytest.raises(Incompatible) as caught:
        report.raise_if_bad()
    assert len(caught.value.message.splitlines()) < 15
    assert all(len(f["which"]) <= 20 for f in caught.value.details["findings"])


def test_every_error_says_what_which_and_the_next_step(tmp_path):
    train("all-linear", tmp_path)
    content = changed(tmp_path, {"r": 7, "use_qalora": True})
    report = check(content, spec_of("llama", num_hidden_layers=1, intermediate_size=96))
    assert {finding.code for finding in report.errors} == {"unsupported", "rank", "modules", "shapes"}
    for finding in report.errors:
        assert finding.what
        assert finding.which
        assert finding.next_step.endswith(".")
    assert [finding.level for finding in report.findings] == sorted(
        (finding.level for finding in report.findings), key=["error", "warning", "ok"].index
    )


def test_the_json_is_the_report(tmp_path):
    train("lora", tmp_path)
    report = check(build_manifest(tmp_path), spec_of("gpt2"))
    payload = json.loads(json.dumps(report.to_json()))
    assert payload["ok"] is False
    assert [f["code"] for f in payload["findings"]] == [f.code for f in report.findings]


def test_a_manifest_and_its_content_give_one_report(tmp_path):
    train("lora", tmp_path)
    manifest = build_manifest(tmp_path)
    assert check(manifest, spec_of("qwen2")) == check(AdapterContent.from_manifest(manifest), spec_of("qwen2"))
