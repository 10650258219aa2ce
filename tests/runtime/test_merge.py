"""Merging: what each mode keeps, what it reports, what it refuses, and that going back is exact."""

from __future__ import annotations

import weakref

import pytest
import torch
import transformers

from hub.errors import Conflict, Incompatible, InvalidRequest, Unsupported
from hub.runtime import four_bit, load
from hub.runtime.dense import dense_weight, is_four_bit
from hub.runtime.original import OriginalWeights
from tests.runtime import support
from tests.runtime.support import load_model, logits, relative_error, write_adapter

TARGETS = support.targets_of("llama")


@pytest.fixture
def small(bases, tmp_path):
    """An adapter whose updates are about 1 % of the weights: smaller than the steps of the 4-bit grid."""
    return write_adapter(bases("llama"), tmp_path / "small", r=4, lora_alpha=4, size=0.05, target_modules=TARGETS)


@pytest.fixture
def large(bases, tmp_path):
    """An adapter whose updates are as large as the weights."""
    return write_adapter(bases("llama"), tmp_path / "large", r=4, lora_alpha=16, size=1.5, target_modules=TARGETS)


def reopened(folder, dtype=torch.float32):
    """The folder as transformers opens it, with 4-bit products in float32 on every CPU."""
    return support.never_packs(transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval())


def test_dequant_keeps_the_function(bases, small):
    model = load_model(bases("llama"), small, quantize="nf4")
    before = logits(model)
    report = model.merge()
    assert report.mode == "dequant"
    assert report.modules == 14
    assert abs(report.retention - 1) < 0.02
    assert report.top1_agreement > 0.9
    assert relative_error(logits(model), before) < 2**-7, "bfloat16 has 8 bits"
    assert report.logit_kl < 1e-3
    assert len(str(report).splitlines()) < 15


def test_requant_of_a_small_update_is_refused_with_its_retention(bases, small):
    model = load_model(bases("llama"), small, quantize="nf4")
    before = logits(model)
    with pytest.raises(Incompatible, match=r"requant would keep 0\.\d+ of this adapter.*dequant") as refused:
        model.merge("requant")
    assert refused.value.details["retention"] < 0.9
    assert torch.equal(logits(model), before)
    model.use(None)  # nothing is merged


def test_requant_of_a_large_update_is_a_4_bit_model_and_its_report_is_right(bases, large):
    model = load_model(bases("llama"), large, quantize="nf4")
    module = model.base.model.layers[0].self_attn.q_proj
    base = four_bit.dequantize(module.weight, module.weight.quant_state).double()
    loaded = next(iter(model._library.slots))
    kept = size = error = 0.0
    report = model.merge("requant")
    merged = model._selection.shared
    for index, update in loaded.updates.items():
        layer = model._attachment.modules[model._attachment.names[index]]
        base = four_bit.dequantize(layer.weight, layer.weight.quant_state).double()
        a, b = update.factors()
        delta = (b @ a).double()
        weight = merged.updates[index].weight
        now = four_bit.dequantize(weight.codes, weight.state).double()
        kept += ((now - base) * delta).sum().item()
        size += (delta**2).sum().item()
        error += ((now - base - delta) ** 2).sum().item()
    assert report.retention == pytest.approx(kept / size, rel=1e-4)
    assert report.residual == pytest.approx((error / size) ** 0.5, rel=1e-4)
    assert report.retention >= 0.9


def test_the_reported_divergence_is_that_of_the_logits(bases, large):
    from hub.runtime.probe import probe_tokens

    model = load_model(bases("llama"), large, quantize="nf4")
    tokens = probe_tokens(96, None, torch.device("cpu"))
    before = torch.log_softmax(logits(model, tokens).double(), -1)
    report = model.merge("requant")
    after = torch.log_softmax(logits(model, tokens).double(), -1)
    expected = torch.nn.functional.kl_div(after, before, log_target=True, reduction="sum") / tokens.numel()
    assert report.logit_kl == pytest.approx(expected.item(), rel=1e-6)
    assert report.top1_agreement == (before.argmax(-1) == after.argmax(-1)).double().mean().item()
    assert report.probe_tokens == tokens.numel()


def test_from_base_quantizes_the_original_weights_plus_the_update(bases, small):
    """Its weights are those that quantizing the dense merged model gives."""
    base = bases("llama")
    dense = load_model(base, small)
    dense.merge()
    model = load_model(base, small, quantize="nf4")
    report = model.merge("from-base")
    assert abs(report.retention - 1) < 0.1
    assert report.residual > 0.5, "a fresh draw of quantization noise, larger than this small update"
    for index, update in model._selection.shared.updates.items():
        expected, _ = four_bit.quantize_like(dense._selection.shared.updates[index].weight.float(), update.weight.state)
        differing = (update.weight.codes != expected).double().mean().item()
        assert differing < 1e-3, "but for sums that round the other way"


def test_from_base_holds_one_original_layer_at_a_time(bases, small, monkeypatch):
    model = load_model(bases("llama"), small, quantize="nf4")
    read, alive = OriginalWeights.__call__, []

    def counted(self, module):
        alive[:] = [kept for kept in alive if kept() is not None]
        assert not alive, "the layer before this one is still held"
        weight = read(self, module)
        alive.append(weakref.ref(weight))
        return weight

    monkeypatch.setattr(OriginalWeights, "__call__", counted)
    report = model.merge("from-base")
    assert report.modules > 1
    assert alive


def test_from_base_without_the_original_weights_says_so(bases, small):
    model = load(support.open_base(bases("llama"), "nf4"), small)
    model._origin.folder = None
    with pytest.raises(InvalidRequest, match="reads the original weights"):
        model.merge("from-base")


@pytest.mark.usefixtures("_kernel_off")  # transformers opens it, and sums in its own order
@pytest.mark.parametrize(
    ("quantize", "mode"), [(None, "dequant"), ("nf4", "dequant"), ("nf4", "from-base"), ("nf4", "requant")]
)
def test_a_saved_merge_opens_with_the_merged_model_s_logits(quantize, mode, bases, large, tmp_path):
    model = load_model(bases("llama"), large, quantize=quantize)
    logits(model)  # also after a forward
    model.merge(mode)
    expected = logits(model)
    folder = model.save_merged(tmp_path / "merged")
    assert torch.equal(logits(reopened(folder)), expected)
    assert {path.suffix for path in folder.iterdir()} <= {".json", ".safetensors"}
    if mode != "dequant":
        assert any(hasattr(module, "quant_state") for module in reopened(folder).modules())


@pytest.mark.parametrize("mode", ["from-base", "requant"])
def test_a_saved_4_bit_merge_runs_where_the_cpu_packs_weights(mode, bases, tmp_path):
    """Packing rounds the scales to bfloat16, an error of 2**-8, and needs blocks of 64 inputs and 32 outputs."""
    base = bases("llama")
    adapter = write_adapter(base, tmp_path / "large", r=4, lora_alpha=16, target_modules=TARGETS)
    model = load_model(base, adapter, quantize="nf4")
    model.merge(mode)
    folder = model.save_merged(tmp_path / "merged")
    whole, packed, native = (
        reopened(folder),
        reopened(folder),
        transformers.AutoModelForCausalLM.from_pretrained(folder),
    )
    assert support.pack(packed) == 14, "every layer"
    four_bit.keep_weights_unpacked(packed.modules())
    for name, module in whole.named_modules():
        if is_four_bit(module):
            weight, x = dense_weight(module), torch.randn(3, module.in_features)
            assert (dense_weight(packed.get_submodule(name)) - weight).norm() <= 2**-7 * weight.norm(), name
            with torch.no_grad():
                product = native.get_submodule(name)(x)  # in bfloat16 where this CPU packs
            assert (product - x @ weight.T).norm() <= 2**-6 * product.norm(), name


def test_a_saved_merge_can_be_a_base_again(bases, small, large, tmp_path):
    model = load_model(bases("llama"), large, quantize="nf4")
    model.merge("requant")
    expected = logits(model)
    again = load_model(model.save_merged(tmp_path / "merged"), small, quantize="nf4")
    assert not torch.equal(logits(again), expected)
    again.use(None)
    assert torch.equal(logits(again), expected)


KINDS_OF_ADAPTER = {
    "dora": {"use_dora": True},
    "rslora": {"use_rslora": True},
    "lora_bias": {"lora_bias": True, "kind": "biased-llama"},
    "all biases": {"bias": "all", "kind": "phi"},
    "embeddings": {"target_modules": ["q_proj", "embed_tokens"]},
    "tied embeddings": {"target_modules": ["q_proj", "embed_tokens"], "kind": "tied-llama"},
    "tied head": {"target_modules": ["q_proj", "lm_head"], "kind": "tied-llama"},
    "scaled embeddings": {"target_modules": ["q_proj", "embed_tokens"], "kind": "gemma3"},
    "dora embeddings": {"target_modules": ["q_proj", "embed_tokens"], "use_dora": True},
    "whole modules": {"modules_to_save": ["lm_head", "input_layernorm"]},
    "tokens": {"trainable_token_indices": [3, 88]},
    "tied tokens": {"trainable_token_indices": [3, 88], "kind": "tied-llama"},
    "conv1d": {"kind": "gpt2"},
    "dora conv1d": {"kind": "gpt2", "use_dora": True},
}


@pytest.mark.parametrize("quantize", [None, "nf4"])
@pytest.mark.parametrize("name", KINDS_OF_ADAPTER)
def test_every_kind_of_adapter_merges_to_the_same_function(name, quantize, bases, tmp_path):
    settings = dict(KINDS_OF_ADAPTER[name])
    kind = settings.pop("kind", "llama")
    if quantize and name == "all biases":
        kind = "biased-llama"
    base = bases(kind)
    folder = write_adapter(base, tmp_path / "a", **({"r": 4, "target_modules": support.targets_of(kind)} | settings))
    model = load_model(base, folder, quantize=quantize)
    before = logits(model)
    report = model.merge()
    tolerance = 2**-5 if quantize else 1e-5
    assert relative_error(logits(model), before) < tolerance
    assert report.retention == pytest.approx(1, abs=0.02)
    merged = logits(model)
    saved = model.save_merged(tmp_path / "merged")
    assert relative_error(logits(reopened(saved)), merged) < 1e-6
    model.unmerge()
    assert torch.equal(logits(model), before)


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_unmerge_is_exact_after_any_number_of_cycles_with_others_loaded(quantize, bases, small, large):
    model = load_model(bases("llama"), large, small, quantize=quantize)
    codes = [value.detach().clone() for value in model.base.state_dict().values()]
    before = {folder: logits(model, adapters=folder) for folder in (large, small)}
    for cycle in range(4):
        chosen = (large, small)[cycle % 2]
        model.use(chosen)
        model.merge("dequant" if chosen is small or quantize is None else "requant")
        logits(model)
        model.unmerge()
        for folder, expected in before.items():
            assert torch.equal(logits(model, adapters=folder), expected)
    after = list(model.base.state_dict().values())
    assert all(torch.equal(now, then) for now, then in zip(after, codes, strict=True))


def test_while_merged_nothing_can_change(bases, small, large):
    model = load_model(bases("llama"), small)
    model.merge()
    with pytest.raises(Conflict, match="merged already"):
        model.merge()
    for attempt in (lambda: model.use(None), lambda: model.add(large), lambda: model.generate(adapters=[None])):
        with pytest.raises(Conflict, match=r"is merged, so this model can't.*model\.unmerge\(\) first"):
            attempt()
    with pytest.raises(Conflict):
        model.remove(small)
    assert model.generate(input_ids=support.TOKENS, max_new_tokens=2, pad_token_id=0).shape == (2, 10)
    model.unmerge()
    with pytest.raises(Conflict, match="Nothing is merged"):
        model.unmerge()
    with pytest.raises(Conflict, match="Nothing is merged"):
        model.save_merged("nowhere")


def test_what_can_t_be_merged_is_refused(bases, small):
    model = load_model(bases("llama"), small)
    with pytest.raises(InvalidRequest, match="4-bit base, and this one is dense"):
        model.merge("requant")
    with pytest.raises(InvalidRequest, match="dequant, from-base, requant are known"):
        model.merge("squash")
    model.use(None)
    with pytest.raises(Conflict, match="nothing to merge"):
        model.merge()


def test_a_folder_that_is_there_is_not_written_over(bases, small, tmp_path):
    model = load_model(bases("llama"), small)
    model.merge()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("keep me")
    with pytest.raises(InvalidRequest, match="not empty"):
        model.save_merged(tmp_path / "full")
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_bias_that_the_architecture_has_no_place_for_can_t_be_saved(bases, tmp_path):
    base = bases("llama")
    folder = write_adapter(base, tmp_path / "a", r=2, target_modules=["q_proj"], lora_bias=True)
    model = load_model(base, folder)
    before = logits(model)
    model.merge()
    assert relative_error(logits(model), before) < 1e-5
    with pytest.raises(Unsupported, match=r"q_proj has no bias in this architecture"):
        model.save_merged(tmp_path / "merged")
    assert not (tmp_path / "merged").exists()


def test_a_weighted_sum_can_be_merged(bases, small, large):
    model = load_model(bases("llama"), small, large)
    model.use({small: 0.5, large: 0.25})
    before = logits(model)
    report = model.merge()
    assert relative_error(logits(model), before) < 1e-5
    assert report.adapter == f"0.5*{small} + 0.25*{large}"
