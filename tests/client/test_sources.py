"""What a user may write for an adapter: a ref, or a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from hub.client.sources import parse_source
from hub.errors import InvalidRef
from hub.refs import AdapterRef


@pytest.mark.parametrize(
    "text", ["./adapter", "../adapter", "/srv/adapter", "~/adapter", ".", "task/qa/", "C:\\adapter"]
)
def test_what_looks_like_a_path_is_a_folder(text):
    assert isinstance(parse_source(text), Path)


@pytest.mark.parametrize("text", ["task/qa", "task/qa@v2", "hf://task/qa@prod"])
def test_what_looks_like_a_ref_is_one_even_beside_a_folder_of_that_name(text, tmp_path, monkeypatch):
    (tmp_path / "task" / "qa").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert parse_source(text) == AdapterRef.parse(text)


def test_a_path_object_is_always_a_folder():
    assert parse_source(Path("task/qa")) == Path("task/qa")


def test_a_folder_whose_name_can_be_no_ref_is_found(tmp_path, monkeypatch):
    (tmp_path / "MyAdapter").mkdir()
    monkeypatch.chdir(tmp_path)
    assert parse_source("MyAdapter") == Path("MyAdapter")


def test_what_is_neither_says_how_each_is_written():
    with pytest.raises(InvalidRef, match=r"namespace/name.*\./"):
        parse_source("MyAdapter")
