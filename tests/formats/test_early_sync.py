"""The disk is asked early, beside the writer, and what it says is never lost."""

from __future__ import annotations

import errno
import queue
import threading
from collections.abc import Callable
from contextlib import suppress

import pytest

from hub.formats import early_sync
from hub.formats.early_sync import STEP_BYTES, EarlySync

FILE = 7


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[int], None]], None]:
    return lambda sync: monkeypatch.setattr(early_sync, "_sync", sync)


def failing(file: int) -> None:
    raise OSError(errno.EIO, "the disk failed")


def test_a_small_file_is_left_to_its_writer(disk) -> None:
    synced: list[int] = []
    disk(synced.append)
    with EarlySync(FILE) as sync:
        sync.wrote(STEP_BYTES - 1)
        assert not [thread for thread in threading.enumerate() if thread.name.startswith("early-sync")]
    assert synced == []


def test_the_writer_never_waits_and_one_sync_runs_at_a_time(disk) -> None:
    release, calls = threading.Event(), []

    def slow(file: int) -> None:
        calls.append(file)
        assert release.wait(60)

    disk(slow)
    with EarlySync(FILE) as sync:
        for _ in range(10):
            sync.wrote(STEP_BYTES)  # would hang here for ever
        release.set()
    assert calls == [FILE]


def test_the_file_is_synced_again_when_the_disk_keeps_up(disk) -> None:
    synced: queue.SimpleQueue[int] = queue.SimpleQueue()
    disk(synced.put)
    seen = []
    with EarlySync(FILE) as sync:
        for _ in range(6_000):  # a minute, on a machine that is busy with other things
            sync.wrote(STEP_BYTES)
            with suppress(queue.Empty):
                seen.append(synced.get(timeout=0.01))
            if len(seen) == 3:
                break
    assert seen == [FILE] * 3


def write_for_long(steps: int, error: Exception | None = None) -> None:
    with EarlySync(FILE) as sync:
        for _ in range(steps):
            sync.wrote(STEP_BYTES)
        if error:
            raise error


@pytest.mark.parametrize("steps", [1, 2, 1_000])
def test_a_failed_sync_is_the_writers_error(disk, steps: int) -> None:
    disk(failing)
    with pytest.raises(OSError, match="the disk failed"):
        write_for_long(steps)


def test_a_failed_sync_outweighs_the_error_that_ended_the_writing(disk) -> None:
    disk(failing)
    with pytest.raises(OSError, match="the disk failed"):
        write_for_long(1, ConnectionAbortedError("the sender went away"))
