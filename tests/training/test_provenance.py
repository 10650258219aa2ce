from __future__ import annotations

import json
from pathlib import Path

import pytest

from hub.adapter.files import build_manifest
from hub.adapter.provenance import PROVENANCE_FILE, Provenance
from hub.errors import InvalidAdapter
from hub.manifest import BaseIdentity
from hub.refs import AdapterRef
from tests.support.adapters import write_adapter

BASE = BaseIdentity(id="acme/base", revision="abc", shapes="1" * 64, weights="2" * 64, sketch="AQ==")


def test_what_was_written_is_read(tmp_path: Path) -> None:
    written = Provenance(BASE, (AdapterRef.parse("task/qa@v1"),), {"steps": 3})
    written.write(tmp_path)
    assert Provenance.read(tmp_path) == written


def test_a_folder_without_the_file_has_none(tmp_path: Path) -> None:
    assert Provenance.read(tmp_path) is None


def test_a_manifest_takes_the_base_from_it_unless_one_is_given(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "adapter")
    Provenance(BASE).write(folder)
    assert build_manifest(folder).base == BASE
    given = BaseIdentity(id="acme/other", shapes="3" * 64)
    assert build_manifest(folder, base=given).base.shapes == "3" * 64


@pytest.mark.parametrize(
    ("payload", "why"),
    [
        ([], "no object"),
        ({"schema": 2}, "schema 1"),
        ({"schema": 1}, "base is no object"),
        ({"schema": 1, "base": {"colour": "red"}}, "base is no object of"),
        ({"schema": 1, "base": {"id": 4}}, "not a text"),
        ({"schema": 1, "base": {}, "trained_from": "task/qa"}, "no list of refs"),
        ({"schema": 1, "base": {}, "trained_from": ["Task"]}, "namespace/name"),
        ({"schema": 1, "base": {}, "training": []}, "training is no object"),
    ],
)
def test_a_malformed_file_is_refused_with_the_reason(tmp_path: Path, payload: object, why: str) -> None:
    (tmp_path / PROVENANCE_FILE).write_text(json.dumps(payload))
    with pytest.raises(InvalidAdapter, match=PROVENANCE_FILE) as caught:
        Provenance.read(tmp_path)
    assert why in caught.value.message


def test_a_huge_file_is_not_read_whole(tmp_path: Path) -> None:
    (tmp_path / PROVENANCE_FILE).write_bytes(b'{"schema": 1, "x": "' + b"y" * 10_000_000 + b'"}')
    with pytest.raises(InvalidAdapter, match="bytes"):
        Provenance.read(tmp_path)
