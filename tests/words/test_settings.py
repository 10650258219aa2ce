"""Settings: flag, then environment, then config file, then default; secrets are kept for their owner."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from hub.errors import InvalidRequest
from hub.settings import (
    DEFAULT_ENDPOINT,
    DEFAULT_PORT,
    ClientSettings,
    ServerSettings,
    UserConfig,
    config_path,
    parse_endpoint,
    parse_switch,
)

HUB = "https://hub.example.org"


@pytest.fixture
def config(tmp_path):
    return tmp_path / "config" / "config.json"


def test_without_anything_the_defaults_hold(config):
    found = ClientSettings.from_env({}, config)
    assert (found.endpoint, found.token, found.offline) == (DEFAULT_ENDPOINT, None, False)


def test_the_config_file_gives_the_endpoint_and_its_own_token(config):
    UserConfig(None, {}).with_token(HUB, "lhub_a").write(config)
    found = ClientSettings.from_env({}, config)
    assert (found.endpoint, found.token) == (HUB, "lhub_a")


def test_the_environment_wins_over_the_config_file(config, tmp_path):
    UserConfig(None, {}).with_token(HUB, "lhub_a").write(config)
    env = {
        "LORAHUB_ENDPOINT": "http://other:1/",
        "LORAHUB_TOKEN": "lhub_b",
        "LORAHUB_CACHE": str(tmp_path),
        "LORAHUB_OFFLINE": "1",
    }
    found = ClientSettings.from_env(env, config)
    assert found == ClientSettings("http://other:1", "lhub_b", tmp_path, offline=True)


def test_a_token_is_only_for_the_endpoint_that_it_was_stored_for(config, monkeypatch):
    monkeypatch.delenv("LORAHUB_TOKEN", raising=False)
    UserConfig(None, {}).with_token(HUB, "lhub_a").write(config)
    found = ClientSettings.from_env({"LORAHUB_ENDPOINT": "http://other:1"}, config)
    assert found.token is None
    assert found.with_endpoint(HUB, config).token == "lhub_a"
    assert found.with_endpoint(HUB, config).with_endpoint("http://third", config).token is None
    assert found.with_endpoint("http://other:1/", config) is found


def test_a_flag_wins_over_the_environment(tmp_path):
    env = {
        "LORAHUB_DATA": "/elsewhere",
        "LORAHUB_PORT": "1",
        "LORAHUB_WORKERS": "3",
        "LORAHUB_DATABASE": "postgresql://x",
    }
    found = ServerSettings.from_env(env, data=tmp_path, port=0, host=None)
    assert (found.data, found.port, found.workers, found.host) == (tmp_path, 0, 3, "127.0.0.1")
    assert found.database == "postgresql://x"
    assert found.store == str(tmp_path / "blobs")


def test_a_server_without_settings_keeps_all_in_its_data_folder(tmp_path):
    found = ServerSettings.from_env({}, data=tmp_path)
    assert found.database == f"sqlite:///{tmp_path / 'registry.sqlite3'}"
    assert (found.port, found.workers, found.upstream) == (DEFAULT_PORT, 1, None)


@pytest.mark.parametrize("name", ["LORAHUB_PORT", "LORAHUB_WORKERS", "LORAHUB_MAX_UPLOAD_BYTES"])
def test_a_setting_that_is_no_number_is_named(name):
    with pytest.raises(InvalidRequest, match=name):
        ServerSettings.from_env({name: "many"})


def test_the_config_file_is_its_owners_alone_and_replaced_whole(config):
    UserConfig(HUB, {HUB: "lhub_a"}).write(config)
    assert stat.S_IMODE(os.stat(config).st_mode) == 0o600
    UserConfig(HUB, {HUB: "lhub_b"}).write(config)
    assert UserConfig.read(config) == UserConfig(HUB, {HUB: "lhub_b"})
    assert [path.name for path in config.parent.iterdir()] == ["config.json"]


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(config, monkeypatch):
    UserConfig(HUB, {HUB: "lhub_a"}).write(config)

    def refuse(*_):
        raise OSError("no")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(OSError, match="no"):
        UserConfig(HUB, {}).write(config)
    assert UserConfig.read(config).tokens == {HUB: "lhub_a"}
    assert [path.name for path in config.parent.iterdir()] == ["config.json"]


def test_forgetting_a_token_keeps_the_others():
    config = UserConfig(HUB, {HUB: "lhub_a", "http://x": "lhub_b"}).with_token(HUB, None)
    assert dict(config.tokens) == {"http://x": "lhub_b"}


@pytest.mark.parametrize("text", ["{", "[]", '{"tokens": 5}', "\ud7ff{"])
def test_a_broken_config_file_is_named_with_the_next_step(config, text):
    config.parent.mkdir()
    config.write_text(text)
    with pytest.raises(InvalidRequest, match=r"config\.json.*Mend or remove"):
        UserConfig.read(config)


def test_fields_of_the_wrong_kind_are_no_settings(config):
    config.parent.mkdir()
    config.write_text(json.dumps({"endpoint": 5, "tokens": {HUB: 7}}))
    with pytest.raises(InvalidRequest):
        ClientSettings.from_env({}, config)


def test_the_config_files_place_can_be_named():
    assert config_path({"LORAHUB_CONFIG": "/etc/lorahub.json"}) == Path("/etc/lorahub.json")


@pytest.mark.parametrize("text", ["http://h", "https://h:8750", "http://h/prefix/", " http://h "])
def test_an_address_is_kept_without_its_last_slash(text):
    assert parse_endpoint(text) == text.strip().rstrip("/")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "h:8750",
        "ftp://h",
        "http://",
        "http://user:secret@h",
        "http://h?x=1",
        "http://h#f",
        "http://[::1",
        "http://h:99999",
        "http://h:x",
    ],
)
def test_what_is_no_address_is_refused(text):
    with pytest.raises(InvalidRequest):
        parse_endpoint(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", True),
        ("TRUE", True),
        ("on", True),
        ("yes", True),
        ("", False),
        ("0", False),
        ("off", False),
        ("No", False),
    ],
)
def test_switches_are_words(text, value):
    assert parse_switch(text, "X") is value


def test_a_switch_that_is_neither_is_named():
    with pytest.raises(InvalidRequest, match="LORAHUB_OFFLINE"):
        parse_switch("maybe", "LORAHUB_OFFLINE")
