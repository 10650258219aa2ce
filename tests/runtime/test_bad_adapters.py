"""Adapters that can't be run: each is refused by what is wrong, and the model is as it was before."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import hub
from hub.adapter.config_fields import REFUSED
from hub.errors import HubError, Incompatible, InvalidAdapter, InvalidSafetensors, Unsupported
from hub.runtime import adapter_weights, build, layers
from tests.runtime import support
from tests.runtime.support import load_model, logits, write_adapter

PREFIX = "base_model.model.model.layers"


@pytest.fixture
def good(bases, tmp_path) -> Path:
    return write_adapter(bases("llama"), tmp_path / "good", r=4, target_modules=["q_proj", "v_proj"])


@pytest.fixture
def model(bases, tmp_path):
    """A model that runs another adapter already, so that there is something to disturb."""
    first = write_adapter(bases("llama"), tmp_path / "first", seed=9, r=2, target_modules=["o_proj"])
    return load_model(bases("llama"), first, slots=2)


def edit_tensors(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    path = folder / "adapter_model.safetensors"
    state = load_file(path)
    change(state)
    save_file({name: value.contiguous() for name, value in state.items()}, path, metadata={"format": "pt"})


def edit_config(folder: Path, **changes: object) -> None:
    path = folder / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def snapshot(model) -> tuple:
    """Return everything that a failed add could have disturbed."""
    classes = [type(module) for module in model.base.modules()]
    state = {name: value.clone() for name, value in model.base.state_dict().items()}
    return model.adapters, model.active, classes, state, logits(model), dict(model._library._names)


def assert_unchanged(model, before: tuple) -> None:
    adapters, active, classes, state, said, names = before
    assert model.adapters == adapters
    assert model.active == active
    assert [type(module) for module in model.base.modules()] == classes
    now = model.base.state_dict()
    assert all(torch.equal(now[name], value) for name, value in state.items())
    assert torch.equal(logits(model), said)
    assert model._library._names == names


def poison(value: float) -> Callable[[dict[str, torch.Tensor]], object]:
    def change(state: dict[str, torch.Tensor]) -> None:
        state[f"{PREFIX}.1.self_attn.v_proj.lora_B.weight"][3, 1] = value

    return change


def drop(name: str) -> Callable[[dict[str, torch.Tensor]], object]:
    return lambda state: state.__delitem__(name)


FAULTS: dict[str, tuple[Callable[[Path], None], type[HubError], str]] = {
    "NaN": (lambda f: edit_tensors(f, poison(math.nan)), InvalidAdapter, r"1 of 8 tensors have NaN or Inf: .*v_proj"),
    "Inf": (lambda f: edit_tensors(f, poison(-math.inf)), InvalidAdapter, r"1 of 8 tensors have NaN or Inf"),
    "a missing half": (
        lambda f: edit_tensors(f, drop(f"{PREFIX}.0.self_attn.q_proj.lora_B.weight")),
        InvalidAdapter,
        r"layers\.0\.self_attn\.q_proj has no lora_B",
    ),
    "a missing module": (
        lambda f: edit_tensors(f, lambda s: [s.pop(f"{PREFIX}.0.self_attn.q_proj.lora_{x}.weight") for x in "AB"]),
        Incompatible,
        r"Missing, 1 modules that it targets have no weights: model\.layers\.0\.self_attn\.q_proj",
    ),
    "an unexpected module": (
        lambda f: edit_tensors(
            f,
            lambda s: s.update({f"{PREFIX}.7.self_attn.q_proj.lora_{x}.weight": torch.ones(64, 4).reshape(*d)
                                for x, d in (("A", (4, 64)), ("B", (64, 4)))}),
        ),
        Incompatible,
        r"Unexpected, 1 of its modules are not here: model\.layers\.7\.self_attn\.q_proj",
    ),
    "a wrong prefix": (
        lambda f: edit_tensors(f, lambda s: [s.update({f"x.{name}": s.pop(name)}) for name in list(s)]),
        HubError,
        r"x\.base_model|not here",
    ),
    "a wrong dtype": (
        lambda f: edit_tensors(f, lambda s: s.update({n: v.to(torch.int32) for n, v in s.items()})),
        InvalidAdapter,
        r"weights of the dtype I32",
    ),
    "a rank that is not the config's": (lambda f: edit_config(f, r=8), InvalidAdapter, r"rank 4 .*the config says 8"),
    "a transposed factor": (
        lambda f: edit_tensors(
            f, lambda s: s.update({n: v[:, :32].contiguous() for n, v in s.items() if "q_proj.lora_A" in n})
        ),
        Incompatible,
        r"q_proj \(lora_A has 32, the base 64\)",
    ),
    "no config": (lambda f: (f / "adapter_config.json").unlink(), InvalidAdapter, r"has no adapter_config\.json"),
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), InvalidAdapter, r"has no adapter_model\.saf"),
    "a pickle": (
        lambda f: (f / "adapter_model.safetensors").rename(f / "adapter_model.bin"),
        InvalidAdapter,
        r"pickled \(adapter_model\.bin\), which is never read",
    ),
    "a cut file": (
        lambda f: (f / "adapter_model.safetensors").write_bytes((f / "adapter_model.safetensors").read_bytes()[:-8]),
        InvalidSafetensors,
        r"cut short",
    ),
    "another method": (lambda f: edit_config(f, peft_type="LOHA"), InvalidAdapter, r"LoRA adapters only"),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_adapter_is_refused_by_name_and_changes_nothing(fault, model, good):
    damage, error, message = FAULTS[fault]
    damage(good)
    before = snapshot(model)
    with pytest.raises(error, match=message) as refused:
        model.add(good)
    assert len(str(refused.value).splitlines()) < 15
    assert_unchanged(model, before)


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_every_field_that_we_don_t_compute_is_refused_before_the_weights_are_read(name, model, good, monkeypatch):
    values = {"layer_replication": [[0, 2]], "alora_invocation_tokens": [1], "enable_lora": [True, False]}
    targets = {"target_modules": ["q_proj", "lm_head"]} if name == "ensure_weight_tying" else {}
    edit_config(good, **{name: values.get(name, True)}, **targets)
    monkeypatch.setattr(adapter_weights, "_read_data", None)
    before = snapshot(model)
    with pytest.raises(Unsupported, match=rf"{name}: .*Use PEFT: PeftModel\.from_pretrained\(base, '.*good'\)"):
        model.add(good)
    assert_unchanged(model, before)


@pytest.mark.parametrize("init", ["pissa", "pissa_niter_4", "olora", "corda", "lora_ga", "loftq"])
def test_an_initialisation_that_changed_the_base_is_refused(init, model, good):
    edit_config(good, init_lora_weights=init)
    with pytest.raises(Unsupported, match="changed the base's weights"):
        model.add(good)


def test_an_unknown_field_that_is_set_changes_nothing_and_is_named(model, good, caplog):
    model.add(good)
    with model.using(good):
        expected = logits(model)
    model.remove(good)
    edit_config(good, use_next_years_idea=True)
    with caplog.at_level("WARNING", logger="hub.runtime"):
        model.add(good)
    assert "use_next_years_idea" in caplog.text
    with model.using(good):
        assert torch.equal(logits(model), expected)


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, RuntimeError])
@pytest.mark.parametrize("place", ["reading", "building", "adapting", "a slot"])
def test_an_add_that_fails_half_way_leaves_everything_as_it_was(place, error, model, good, monkeypatch):
    before = snapshot(model)
    calls = 0

    def fails(*args, **kwargs):
        nonlocal calls
        calls += 1
        if place != "adapting" or calls == 3:  # some modules have been adapted by then
            raise error("now")
        return original(*args, **kwargs)

    where, name = {
        "reading": (adapter_weights, "_views"),
        "building": (build, "_linear"),
        "adapting": (layers, "adapt"),
        "a slot": (type(model._library.slots), "put"),
    }[place]
    original = getattr(where, name)
    monkeypatch.setattr(where, name, fails)
    with pytest.raises(error):
        model.add(good)
    monkeypatch.undo()
    assert calls
    assert_unchanged(model, before)
    model.add(good)
    model.use(good)
    assert support.relative_error(logits(model), support.peft_logits(Path(model.base.name_or_path), good)) <= 1e-5


def test_a_refused_adapter_pushes_none_out_of_its_slot(bases, model, good, tmp_path):
    second = write_adapter(bases("llama"), tmp_path / "second", r=2, target_modules=["k_proj"])
    model.add(second)
    edit_tensors(good, poison(math.nan))
    before = model.adapters
    with pytest.raises(InvalidAdapter):
        model.add(good)
    assert model.adapters == before


def test_files_of_other_trainers_are_refused_by_what_they_are(model, good):
    def kohya(state: dict[str, torch.Tensor]) -> None:
        state.clear()
        state["lora_unet_down_blocks_0_attentions_0_proj_in.lora_down.weight"] = torch.ones(4, 4)

    edit_tensors(good, kohya)
    with pytest.raises(InvalidAdapter, match="a kohya"):
        model.add(good)


def test_loralib_keys_are_read(bases, good, tmp_path):
    base = bases("llama")
    expected = logits(load_model(base, good))
    theirs = Path(shutil.copytree(good, tmp_path / "loralib"))
    edit_tensors(
        theirs,
        lambda s: (
            [s.update({n.removeprefix("base_model.model.").removesuffix(".weight"): s.pop(n)}) for n in list(s)]
            and None
        ),
    )
    assert any(name.endswith("q_proj.lora_A") for name in load_file(theirs / "adapter_model.safetensors"))
    assert torch.equal(logits(load_model(base, theirs)), expected)


def test_an_embedding_of_another_base_is_noticed(bases, tmp_path):
    """PEFT saves a targeted embedding along, and would write it over the base's without a word."""
    folder = write_adapter(bases("llama"), tmp_path / "e", r=2, target_modules=["embed_tokens"])
    name = "base_model.model.model.embed_tokens.base_layer.weight"
    assert name in load_file(folder / "adapter_model.safetensors")
    edit_tensors(folder, lambda s: s[name].add_(0.5))
    with pytest.raises(Incompatible, match=r"carries its base's model\.embed_tokens, and this base has another one"):
        load_model(bases("llama"), folder)


def test_a_file_of_mixed_types_is_read(bases, good):
    base = bases("llama")
    edit_tensors(good, lambda s: s.update({n: v.to(torch.bfloat16) for n, v in s.items() if "lora_A" in n}))
    assert support.relative_error(logits(load_model(base, good)), support.peft_logits(base, good)) <= 1e-5


def test_a_name_s_end_is_enough_for_a_module_that_is_stored_whole(bases, tmp_path):
    """As PEFT reads it: `head` means `lm_head`, which is then not adapted as well."""
    base = bases("llama")
    folder = write_adapter(base, tmp_path / "w", r=2, target_modules=["q_proj"], modules_to_save=["lm_head"])
    theirs = support.peft_logits(base, folder)
    edit_config(folder, target_modules=["q_proj", "lm_head"], modules_to_save=["head"])
    assert hub.check(base, folder).ok
    assert support.relative_error(logits(load_model(base, folder)), theirs) <= 1e-5


def test_a_whole_module_that_is_4_bit_here_is_refused(bases, tmp_path):
    base = bases("llama")
    folder = write_adapter(base, tmp_path / "w", r=2, target_modules=["q_proj"], modules_to_save=["o_proj"])
    assert load_model(base, folder).active == str(folder)
    with pytest.raises(Unsupported, match=r"o_proj is stored whole, but it is quantized in this base.*quantize=None"):
        load_model(base, folder, quantize="nf4")
