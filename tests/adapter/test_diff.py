"""Two adapters compared by products of rank x rank numbers: equal to the same thing on the dense updates."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from hub.adapter.deltas import (
    MAX_RANK,
    AdapterWeights,
    Factors,
    cosine,
    effective_rank,
    inner_product,
    norm,
    singular_values,
)
from hub.adapter.diff import diff, layer_map
from hub.errors import HubError
from hub.formats.readable import LocalFile
from tests.support.adapters import write_adapter
from tests.support.peft_folders import train


def dense(factors):
    return factors.scaling * torch.from_numpy(factors.b) @ torch.from_numpy(factors.a)


def make(seed, out_features, in_features, rank, scaling):
    random = np.random.default_rng(seed)
    return Factors("m", scaling, random.normal(size=(rank, in_features)), random.normal(size=(out_features, rank)))


SIDES = st.integers(1, 24)
SCALINGS = st.floats(0.1, 4) | st.floats(-4, -0.1)


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 2**31), SIDES, SIDES, st.integers(1, 12), st.integers(1, 12), SCALINGS, SCALINGS)
def test_low_rank_algebra_equals_dense_algebra(
    seed, out_features, in_features, rank, other_rank, scaling, other_scaling
):
    first = make(seed, out_features, in_features, rank, scaling)
    second = make(seed + 1, out_features, in_features, other_rank, other_scaling)
    a, b = dense(first), dense(second)
    assert inner_product(first, second) == pytest.approx(float((a * b).sum()), rel=1e-9, abs=1e-9)
    assert norm(first) == pytest.approx(float(a.norm()), rel=1e-9, abs=1e-9)
    assert cosine(first, second) == pytest.approx(float(torch.cosine_similarity(a.flatten(), b.flatten(), 0)), abs=1e-7)
    expected = torch.linalg.svdvals(a)
    ours = singular_values(first)
    shared = min(len(ours), len(expected))
    assert np.allclose(ours[:shared], expected[:shared].numpy(), rtol=1e-8, atol=1e-8)


def test_the_effective_rank_counts_the_directions_in_use():
    random = np.random.default_rng(0)
    a, _ = np.linalg.qr(random.normal(size=(32, 8)))
    b, _ = np.linalg.qr(random.normal(size=(16, 8)))
    assert effective_rank(Factors("m", 2.0, a.T, b)) == pytest.approx(8)
    assert effective_rank(Factors("m", 1.0, a.T, b * ([1.0] + [0.0] * 7))) == pytest.approx(1)
    shares = np.array([0.5, 0.25, 0.25])
    expected = float(np.exp(-(shares * np.log(shares)).sum()))
    assert effective_rank(Factors("m", 1.0, a.T[:3], b[:, :3] * shares)) == pytest.approx(expected)
    assert effective_rank(Factors("m", 1.0, a.T, b * 0)) == 0


def test_opposite_updates_have_the_cosine_minus_one_and_zero_ones_none():
    factors = make(0, 8, 6, 2, 1.5)
    opposite = Factors("m", -0.5, factors.a, factors.b)
    assert cosine(factors, opposite) == pytest.approx(-1)
    assert cosine(factors, Factors("m", 0.0, factors.a, factors.b)) is None
    assert cosine(factors, make(0, 8, 7, 2, 1.0)) is None


@pytest.mark.parametrize("variant", ["lora", "patterns", "rslora", "embedding-and-head", "conv1d"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_the_layer_map_has_the_norms_of_pefts_updates(variant, dtype, tmp_path):
    trained = train(variant, tmp_path)
    file = tmp_path / "adapter_model.safetensors"
    save_file({k: w.to(dtype) for k, w in load_file(file).items()}, file, metadata={"format": "pt"})
    cells = {cell.module: cell for cell in layer_map(tmp_path).cells}
    modules = dict(trained.model.base_model.model.named_modules())
    for name, cell in cells.items():
        expected = float(modules[name].get_delta_weight("default").detach().norm())
        assert cell.norm == pytest.approx(expected, rel=1e-5 if dtype is torch.float32 else 2e-2)
        assert 1 <= cell.effective_rank <= cell.rank == modules[name].r["default"]
    assert set(cells) == set(trained.model.base_model.targeted_module_names)


def test_cells_come_by_layer_then_by_name_and_last_those_outside(tmp_path):
    folder = write_adapter(tmp_path / "a", layers=12)
    cells = layer_map(folder).cells
    assert [cell.layer for cell in cells] == [layer for layer in range(12) for _ in range(2)]
    train("embedding", tmp_path / "b")
    assert layer_map(tmp_path / "b").cells[-1].layer is None


def test_an_adapter_is_the_same_as_itself_and_as_its_copy_in_a_store(tmp_path):
    folder = write_adapter(tmp_path / "a")
    files = {path.name: LocalFile(path) for path in folder.iterdir()}
    found = diff(folder, files)
    assert found.same
    assert str(found) == "The two adapters are the same."
    assert all(module.cosine == pytest.approx(1) for module in found.modules)


def change(folder, weights=None, **fields):
    file, path = folder / "adapter_model.safetensors", folder / "adapter_config.json"
    if weights:
        save_file(weights(load_file(file)), file, metadata={"format": "pt"})
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
    return folder


def test_everything_that_changed_is_named(tmp_path):
    before = write_adapter(tmp_path / "a", readme="one")
    after = write_adapter(tmp_path / "b", readme="two")
    (after / "LICENSE").write_text("MIT")
    first = "base_model.model.model.layers.0.self_attn.q_proj"

    def edit(weights):
        weights[f"{first}.lora_B.weight"] = -weights[f"{first}.lora_B.weight"]
        for half in "AB":
            del weights[f"base_model.model.model.layers.1.self_attn.v_proj.lora_{half}.weight"]
            name = f"base_model.model.model.layers.1.self_attn.o_proj.lora_{half}.weight"
            weights[name] = torch.ones(4, 32) if half == "A" else torch.ones(32, 4)
        return weights

    change(after, edit, lora_alpha=32)
    found = diff(before, after)
    assert [(c.field, c.before, c.after) for c in found.config] == [("lora_alpha", 8, 32)]
    assert (found.files.added, found.files.changed) == (("LICENSE",), ("README.md",))
    assert found.tensors.changed == (f"{first}.lora_B.weight",)
    assert len(found.tensors.added) == len(found.tensors.removed) == 2
    modules = {module.module.removeprefix("model.layers."): module for module in found.modules}
    assert modules["0.self_attn.q_proj"].cosine == pytest.approx(-1)
    assert modules["0.self_attn.q_proj"].norm_after == pytest.approx(4 * modules["0.self_attn.q_proj"].norm_before)
    assert modules["0.self_attn.v_proj"].cosine == pytest.approx(1)
    assert modules["1.self_attn.v_proj"].norm_after is None
    assert modules["1.self_attn.o_proj"].norm_before is None
    text = "\n".join(found.lines())
    for expected in ("lora_alpha: 8 -> 32", "1 added: LICENSE", "2 removed", "-1.000"):
        assert expected in text
    assert json.loads(json.dumps(found.to_json()))["same"] is False


def test_the_overall_cosine_is_that_of_the_dense_updates(tmp_path):
    before, after = write_adapter(tmp_path / "a", seed=1), write_adapter(tmp_path / "b", seed=2)
    flat = []
    for folder in (before, after):
        files = {path.name: LocalFile(path) for path in folder.iterdir()}
        flat.append(torch.cat([dense(f).flatten() for f in AdapterWeights.open(files).factors()]))
    expected = float(torch.cosine_similarity(*flat, 0))
    assert diff(before, after).mean_cosine == pytest.approx(expected, abs=1e-9)


def test_the_order_of_a_list_is_no_change(tmp_path):
    before = write_adapter(tmp_path / "a")
    after = change(write_adapter(tmp_path / "b"), target_modules=["v_proj", "q_proj"])
    assert diff(before, after).same


def test_ranks_may_differ(tmp_path):
    found = diff(write_adapter(tmp_path / "a", rank=2), write_adapter(tmp_path / "b", rank=6))
    assert all(module.cosine is not None for module in found.modules)


def test_an_enormous_rank_is_left_out_of_the_map(tmp_path):
    folder = write_adapter(tmp_path / "a", rank=MAX_RANK + 1, layers=1)
    assert layer_map(folder).cells == ()


def test_without_numpy_the_error_says_what_to_install(tmp_path, monkeypatch):
    folder = write_adapter(tmp_path / "a")
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(HubError, match="pip install numpy"):
        layer_map(folder)
