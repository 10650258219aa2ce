"""From a real registry: versions, aliases, the cache, and whether the base is the one that was trained on."""

from __future__ import annotations

import json
import mmap
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file

import hub
import hub.client.sync
from hub.errors import AdapterNotFound, Conflict, HubError, Incompatible, InvalidAdapter, VersionNotFound
from hub.runtime import adapter_weights
from tests.runtime import support
from tests.runtime.support import load_model, logits, relative_error, write_adapter
from tests.support.server import running_server


@pytest.fixture(scope="module")
def registry(tmp_path_factory) -> Iterator[dict[str, str]]:
    with running_server(tmp_path_factory.mktemp("registry")) as server:
        yield {"LORAHUB_ENDPOINT": server.url, "LORAHUB_TOKEN": server.token}


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("pushed")
    return [write_adapter(base, root / f"v{i}", seed=i, r=i + 2, target_modules=["q_proj", "v_proj"]) for i in range(3)]


@pytest.fixture(scope="module")
def pushed(registry, base, folders) -> list[str]:
    """task/qa with three versions, trained on `base`."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in registry.items():
            patch.setenv(name, value)
        return [str(hub.push(folder, "task/qa", base=base).ref) for folder in folders]


@pytest.fixture(autouse=True)
def _configured(registry, pushed, tmp_path, monkeypatch):
    monkeypatch.setenv("LORAHUB_CACHE", str(tmp_path / "cache"))
    for name, value in registry.items():
        monkeypatch.setenv(name, value)


def test_a_version_runs_as_its_folder_does(base, folders, pushed):
    assert pushed == ["task/qa@v1", "task/qa@v2", "task/qa@v3"]
    model = load_model(base, "task/qa@v2")
    assert model.active == "task/qa@v2"
    assert relative_error(logits(model), support.peft_logits(base, folders[1])) <= 1e-5


def test_a_name_without_a_version_means_what_it_meant_when_it_was_added(base, registry):
    model = load_model(base, "task/qa")
    assert model.adapters == ("task/qa@v3",)
    model.use(None)
    model.use("task/qa")
    assert model.active == "task/qa@v3"
    model.use("task/qa@v3")
    model.use(None)
    model.remove("task/qa")
    assert model.adapters == ()


@pytest.mark.parametrize("way", ["our own", "the Hugging Face wire"])
def test_a_version_whose_weights_are_no_numbers_is_refused_by_name(base, folders, registry, tmp_path, monkeypatch, way):
    """The registry reads headers, not weights; nothing of such a version reaches the model."""
    folder = tmp_path / "diverged"
    shutil.copytree(folders[0], folder)
    state = load_file(folder / "adapter_model.safetensors")
    name = next(one for one in sorted(state) if "v_proj.lora_B" in one)
    state[name][0, 0] = float("nan")
    save_file(state, folder / "adapter_model.safetensors", {"format": "pt"})
    if way == "our own":
        ref = str(hub.push(folder, "task/diverged").ref)
    else:
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)  # as all tests of models are
        api = HfApi(registry["LORAHUB_ENDPOINT"], registry["LORAHUB_TOKEN"])
        api.create_repo("task/wired")
        api.upload_folder(repo_id="task/wired", folder_path=folder)
        ref = "task/wired@v1"
    model = load_model(base, "task/qa@v1")
    before = logits(model)
    with pytest.raises(InvalidAdapter, match=r"NaN or Inf: .*v_proj"):
        model.add(ref)
    assert model.adapters == ("task/qa@v1",)
    assert torch.equal(logits(model), before)


def test_a_load_asks_the_registry_once_for_each_ref(base, monkeypatch):
    asked: list[str] = []
    real = hub.client.sync.resolve
    monkeypatch.setattr("hub.client.sync.resolve", lambda ref, *rest: asked.append(str(ref)) or real(ref, *rest))
    load_model(base, "task/qa@v1", "task/qa")
    assert asked == ["task/qa@v1", "task/qa"]


def test_a_file_of_the_cache_is_mapped_and_a_folder_s_is_not(base, folders, monkeypatch):
    mapped: list[int] = []
    real = mmap.mmap
    monkeypatch.setattr(adapter_weights.mmap, "mmap", lambda *a, **k: mapped.append(1) or real(*a, **k))
    load_model(base, "task/qa@v1")
    assert mapped == [1]
    load_model(base, folders[0])
    assert mapped == [1]


def test_a_mapped_adapter_outlives_its_file(base, tmp_path):
    model = load_model(base, "task/qa@v1")
    before = logits(model)
    shutil.rmtree(tmp_path / "cache")
    assert torch.equal(logits(model), before)


def test_rows_of_a_batch_are_fetched_when_they_are_named(base, folders):
    model = load_model(base)
    both = logits(model, support.TOKENS, adapters=["task/qa@v1", "task/qa@v3"])
    for row, folder in ((0, folders[0]), (1, folders[2])):
        expected = support.peft_logits(base, folder, tokens=support.TOKENS[row : row + 1])
        assert relative_error(both[row : row + 1], expected) <= 1e-5


def test_a_version_that_left_its_slot_comes_back_without_the_registry(base, monkeypatch):
    model = load_model(base, "task/qa@v1", slots=1)
    first = logits(model)
    model.use(None)
    model.add("task/qa@v2")
    assert model.adapters == ("task/qa@v2",)
    monkeypatch.setenv("LORAHUB_ENDPOINT", "http://127.0.0.1:9")
    model.use("task/qa@v1")
    assert torch.equal(logits(model), first)


def test_a_cache_that_was_emptied_meanwhile_is_said(base, tmp_path):
    model = load_model(base, "task/qa@v1", slots=1)
    model.use(None)
    model.add("task/qa@v2")
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(Conflict, match=r"task/qa@v1 have changed or gone"):
        model.use("task/qa@v1")
    model.remove("task/qa@v1")
    model.add("task/qa@v1")
    model.use("task/qa@v1")


def test_what_the_registry_doesn_t_have_is_its_error(base):
    with pytest.raises(VersionNotFound, match="v9"):
        load_model(base, "task/qa@v9")
    with pytest.raises(AdapterNotFound):
        load_model(base, "task/nothing")


def changed_base(base: Path, folder: Path) -> Path:
    """Copy a base and train it a little, so to speak: same shapes, other weights."""
    copy = Path(shutil.copytree(base, folder))
    state = load_file(copy / "model.safetensors")
    torch.manual_seed(5)
    save_file(
        {name: value + 0.01 * torch.randn_like(value) for name, value in state.items()},
        copy / "model.safetensors",
        metadata={"format": "pt"},
    )
    return copy


def test_other_weights_of_the_same_shapes_are_refused_before_anything_is_fetched(base, tmp_path, monkeypatch):
    other = changed_base(base, tmp_path / "fine-tuned")
    monkeypatch.setattr("hub.client.sync.fetch", None)
    monkeypatch.setattr("hub.runtime.loading.load_base", None)
    with pytest.raises(Incompatible, match=r"other weights"):
        load_model(other, "task/qa@v1")


def test_strict_false_warns_and_runs(base, tmp_path):
    other = changed_base(base, tmp_path / "fine-tuned")
    with pytest.warns(UserWarning, match="other weights"):
        model = load_model(other, "task/qa@v1", strict=False)
    assert model.active == "task/qa@v1"


@pytest.mark.parametrize("quantize", [None, "nf4"])
def test_a_renamed_cast_or_4_bit_copy_of_the_base_is_recognised(quantize, base, tmp_path, recwarn):
    renamed = tmp_path / "my-own-name"
    support.open_base(base).to(torch.bfloat16).save_pretrained(renamed)
    load_model(renamed, "task/qa@v1", quantize=quantize)
    four_bit = tmp_path / "four-bit"
    support.open_base(base, "nf4").save_pretrained(four_bit)
    load_model(four_bit, "task/qa@v1")
    assert not [warning for warning in recwarn if "other weights" in str(warning.message)]


def test_a_base_in_memory_is_compared_too(base, tmp_path):
    from hub.runtime import load

    assert load(support.open_base(base, "nf4"), "task/qa@v1").active == "task/qa@v1"
    model = load(support.open_base(changed_base(base, tmp_path / "other")))
    with pytest.raises(Incompatible, match="other weights"):
        model.add("task/qa@v1")
    assert model.adapters == ()


def test_another_architecture_is_refused_in_a_few_lines(bases):
    with pytest.raises(Incompatible) as refused:
        load_model(bases("gpt2"), "task/qa@v1")
    assert len(str(refused.value).splitlines()) < 15


def test_no_server_is_a_network_error(base, monkeypatch):
    monkeypatch.setenv("LORAHUB_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(HubError) as failed:
        load_model(base, "task/qa@v1")
    assert failed.value.exit_code == 8


@pytest.fixture
def other(base, tmp_path) -> Path:
    """A base of equal shapes with other weights."""
    shutil.copytree(base, tmp_path / "other")
    file = tmp_path / "other" / "model.safetensors"
    save_file({name: value + 0.01 for name, value in load_file(file).items()}, file, {"format": "pt"})
    return tmp_path / "other"


@pytest.fixture
def recorded(base, folders, registry, tmp_path) -> dict[str, Path]:
    """Folders that say what their base was, each in another way."""
    from hub.adapter.provenance import Provenance
    from hub.base.spec import BaseSpec

    written = shutil.copytree(folders[0], tmp_path / "written")
    Provenance(BaseSpec.from_folder(base).identity("tiny")).write(written)
    info = hub.info("task/qa@v1")
    pulled = hub.pull("task/qa@v1")
    copy = hub.client.sync.copy_out(pulled, tmp_path / "copy", info.manifest.base)
    return {"written by training": written, "pulled": pulled, "pulled to a folder": copy}


@pytest.mark.parametrize("way", ["written by training", "pulled", "pulled to a folder"])
def test_a_folder_s_recorded_base_is_compared_as_a_version_s_is(way, base, other, recorded):
    folder = recorded[way]
    load_model(base, folder)
    for quantize in (None, "nf4"):
        with pytest.raises(Incompatible, match="other weights"):
            load_model(other, folder, quantize=quantize)
    model = load_model(other)
    with pytest.raises(Incompatible, match="other weights"):
        model.add(folder)
    assert model.adapters == ()
    assert not hub.check(other, folder).ok
    with pytest.warns(UserWarning, match="other weights"):
        load_model(other, folder, strict=False)


def test_a_folder_s_record_that_can_t_be_read_is_no_leave_to_load(base, recorded):
    (recorded["pulled to a folder"] / "lorahub.json").write_text("{}")
    with pytest.raises(InvalidAdapter, match=r"lorahub\.json is not what training writes"):
        load_model(base, recorded["pulled to a folder"])


def test_a_base_whose_config_computes_something_else_is_refused(base, recorded, tmp_path):
    other = shutil.copytree(base, tmp_path / "stretched")
    config = json.loads((other / "config.json").read_text())
    config["rope_parameters"] = config["rope_parameters"] | {"rope_theta": 5e5}
    (other / "config.json").write_text(json.dumps(config))
    for adapter in (recorded["written by training"], "task/qa@v1"):
        with pytest.raises(Incompatible, match=r"rope_theta is 500000\.0 here, and was 10000\.0"):
            load_model(other, adapter)


@pytest.mark.parametrize(
    ("trained", "quantize", "is_said"),
    [
        ({"quantize": None}, "nf4", True),
        ({"quantize": None}, None, False),
        ({"quantize": "nf4"}, "nf4", False),
        ({}, "nf4", False),
    ],
)
def test_an_adapter_that_was_trained_dense_says_so_once_on_4_bits(
    trained, quantize, is_said, base, folders, tmp_path, caplog
):
    from hub.adapter.provenance import Provenance
    from hub.base.spec import BaseSpec

    folder = shutil.copytree(folders[0], tmp_path / "dense")
    Provenance(BaseSpec.from_folder(base).identity(), training=trained).write(folder)
    model = load_model(base, folder, quantize=quantize, slots=1)
    model.add(folder)
    said = [
        record
        for record in caplog.records
        if "was trained on the dense base, and this one is 4-bit" in record.getMessage()
    ]
    assert len(said) == is_said
