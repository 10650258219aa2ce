"""Files that only their owner may use, whatever the umask says."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from hub.formats.private_files import (
    close_to_others,
    create_private,
    ensure_private_file,
    is_open_to_others,
    make_private_folder,
)

pytestmark = pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")


@pytest.fixture(autouse=True)
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_what_is_made_is_for_its_owner_alone(tmp_path: Path) -> None:
    make_private_folder(tmp_path / "a" / "b")
    assert (mode(tmp_path / "a"), mode(tmp_path / "a" / "b")) == (0o700, 0o700)
    with create_private(tmp_path / "file") as file:
        file.write(b"x")
    ensure_private_file(tmp_path / "other")
    assert (mode(tmp_path / "file"), mode(tmp_path / "other")) == (0o600, 0o600)


def test_what_is_there_is_kept_and_can_be_closed(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.mkdir(mode=0o755)
    make_private_folder(there)
    assert is_open_to_others(there)
    (there / "file").write_bytes(b"kept")
    ensure_private_file(there / "file")
    assert (there / "file").read_bytes() == b"kept"
    for path in (there, there / "file"):
        close_to_others(path)
        assert not is_open_to_others(path)
    assert (mode(there), mode(there / "file")) == (0o700, 0o600)
    assert not is_open_to_others(tmp_path / "none")
    close_to_others(tmp_path / "none")
