"""The public functions, as a program calls them: settings from the environment, values back."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest

import hub
from hub.adapter.config import LoraConfig
from hub.client.progress import HubWarning
from hub.client.records import VersionInfo
from hub.errors import AdapterNotFound, Incompatible, InvalidAdapter, VersionNotFound
from tests.client.tiny_base import write_base
from tests.support.adapters import lora_config, write_adapter
from tests.support.server import RunningServer

LLAMA_2_7B = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 4096,
    "intermediate_size": 11008,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 32,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}


@pytest.fixture
def at_home(server: RunningServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This process's environment names the server; the cache is the test's own."""
    monkeypatch.setenv("LORAHUB_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("LORAHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LORAHUB_ENDPOINT", server.url)
    monkeypatch.setenv("LORAHUB_TOKEN", server.token)
    monkeypatch.delenv("LORAHUB_OFFLINE", raising=False)
    return tmp_path


def test_push_gives_a_version_and_pull_its_folder(at_home):
    folder = write_adapter(at_home / "adapter", seed=70)
    version = hub.push(folder, "lib/qa", task="qa", message="first", alias="prod")
    assert isinstance(version, VersionInfo)
    assert str(version.ref) == "lib/qa@v1"
    assert (version.task, version.rank, version.alpha, version.created_by) == ("qa", 4, 8, "admin")
    pulled = hub.pull("lib/qa@prod")
    assert (pulled / "adapter_model.safetensors").read_bytes() == (folder / "adapter_model.safetensors").read_bytes()
    assert hub.pull(version.ref) == pulled
    copy = hub.pull("lib/qa", to=at_home / "copy")
    (copy / "adapter_config.json").write_text("mine now")
    assert hub.pull("lib/qa@v1") == pulled
    assert (pulled / "adapter_config.json").read_bytes() == (folder / "adapter_config.json").read_bytes()


def test_a_local_folder_is_its_own_pull(at_home):
    folder = write_adapter(at_home / "adapter", seed=71)
    assert hub.pull(folder) == folder
    assert hub.pull(str(folder)) == folder


def test_info_and_search_tell_what_the_registry_knows(at_home):
    for number in range(3):
        hub.push(write_adapter(at_home / f"adapter{number}", seed=72 + number), f"lib-many/a{number}", task="many")
    info = hub.info("lib-many/a1")
    assert info.manifest is not None
    assert info.manifest.digest == info.digest
    found = hub.search(task="many", sort="name")
    assert [str(item.name) for item in found] == ["lib-many/a0", "lib-many/a1", "lib-many/a2"]
    assert len(hub.search(task="many", limit=2)) == 2
    with pytest.raises(AdapterNotFound):
        hub.info("lib/none")
    with pytest.raises(VersionNotFound):
        hub.info("lib-many/a1@v7")


def test_a_search_longer_than_a_page_is_whole(at_home, monkeypatch):
    from hub.client.api import Client, Search
    from hub.settings import ClientSettings

    for number in range(5):
        hub.push(write_adapter(at_home / f"paged{number}", seed=80 + number), f"lib-paged/a{number}", task="paged")
    with Client(ClientSettings.from_env()) as client:
        found, total = client.search_counted(Search.of(task="paged", limit=2, sort="name"), at_most=4)
    assert [item.name.name for item in found] == ["a0", "a1", "a2", "a3"]
    assert total == 5


def test_summary_says_pefts_line_for_llama_2_7b(at_home):
    """r=8 on q and v: 32 layers x 2 x 8 x (4096 + 4096) = 4,194,304; on q, k, v, o twice that."""
    config = at_home / "config.json"
    config.write_text(json.dumps(LLAMA_2_7B))
    two = LoraConfig.from_json(lora_config(8, 16, ["q_proj", "v_proj"], None))
    assert (
        hub.summary(two, config).line()
        == "trainable params: 4,194,304 || all params: 6,742,609,920 || trainable%: 0.0622"
    )
    adapter = at_home / "adapter_config.json"
    adapter.write_text(json.dumps(lora_config(8, 16, ["q_proj", "k_proj", "v_proj", "o_proj"], None)))
    assert hub.summary(adapter, config).trainable == 8_388_608


def test_check_answers_before_weights_move(at_home):
    folder, base = write_adapter(at_home / "adapter", seed=90), write_base(at_home / "base")
    version = hub.push(folder, "lib/checked", base=base)
    assert hub.check(base, version.ref).ok
    assert not (at_home / "cache" / "blobs").exists(), "the manifest was enough"
    other = write_base(at_home / "other", hidden_size=48)
    report = hub.check(other, version.ref)
    assert not report.ok
    with pytest.raises(Incompatible):
        report.raise_if_bad()
    with pytest.raises(Incompatible):
        hub.push(folder, "lib/checked", base=other)


def test_weights_that_are_not_numbers_are_found_where_they_are_on_this_disk(at_home):
    from array import array

    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    nan = ((4, 32), array("f", [float("nan")] * 128).tobytes())
    folder, base = write_adapter(at_home / "adapter", tensors={name: nan}), write_base(at_home / "base")
    report = hub.check(base, folder)
    assert not report.ok
    assert "q_proj" in str(report)


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_weights_that_are_not_numbers_are_named_whichever_way_they_were_published(at_home, value):
    """The registry reads headers only, so such a version exists; whoever fetches it is told before it runs."""
    from array import array

    name = "base_model.model.model.layers.1.self_attn.v_proj.lora_B.weight"
    bad = ((32, 4), array("f", [0.5] * 127 + [float(value)]).tobytes())
    folder = write_adapter(at_home / "adapter", tensors={name: bad}, seed=94)
    base = write_base(at_home / "base")
    with pytest.raises(Incompatible, match=r"v_proj"):
        hub.push(folder, "lib/diverged", base=base)
    version = hub.push(folder, f"lib/diverged-{value}")
    hub.pull(version.ref)
    report = hub.check(base, version.ref)
    assert not report.ok
    assert "layers.1.self_attn.v_proj" in str(report)


def test_diff_knows_equal_and_opposite_updates(at_home):
    a, b = write_adapter(at_home / "a", seed=91), write_adapter(at_home / "b", seed=92)
    assert str(hub.diff(a, a)) != str(hub.diff(a, b))


def test_a_yanked_version_warns_a_program(at_home):
    from hub.client.api import Client
    from hub.settings import ClientSettings

    version = hub.push(write_adapter(at_home / "adapter", seed=93), "lib/yanked")
    assert warnings_of_a_pull(version) == []
    with Client(ClientSettings.from_env()) as client:
        client.yank(version.adapter, 1, "wrong data")
    assert warnings_of_a_pull(version) == [(HubWarning, "lib/yanked@v1 was yanked: wrong data.")]


def warnings_of_a_pull(version: VersionInfo) -> list[tuple[type[Warning], str]]:
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        warnings.simplefilter("ignore", ResourceWarning)  # whenever the garbage collector finds what others left open
        hub.pull(version.ref)
    return [(one.category, str(one.message)) for one in told]


def test_a_folder_that_is_no_adapter_is_named(at_home):
    with pytest.raises(InvalidAdapter, match="save_pretrained"):
        hub.push(at_home, "lib/none")
    with pytest.raises(InvalidAdapter):
        hub.summary(at_home / "nowhere")


def test_another_registry_can_be_named_for_one_call(at_home, monkeypatch, server):
    monkeypatch.setenv("LORAHUB_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.delenv("LORAHUB_TOKEN")
    from hub.settings import UserConfig, config_path

    path = config_path({"LORAHUB_CONFIG": str(at_home / "config.json")})
    UserConfig("http://127.0.0.1:9", {server.url: server.token}).write(path)
    folder = write_adapter(at_home / "adapter", seed=94)
    assert hub.push(folder, "lib/named", registry=server.url).version == 1
    assert hub.pull("lib/named", registry=server.url).is_dir()
