"""Feed bombs to a reader in a process of its own, and look at its time and its memory."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

_CHILD = """
import hashlib, json, re, sys, time
from hub.formats.front_matter import parse_front_matter
from hub.errors import HubError, InvalidAdapter
from hub.adapter.config import LoraConfig
from hub.manifest import Manifest
from hub.formats.safetensors_header import read_header

def read_card(path):
    problem = parse_front_matter(open(path, "rb").read().decode()).problem
    if problem:
        raise InvalidAdapter(problem)

def read_config(path):
    LoraConfig.parse(open(path, "rb").read())

def read_manifest(path):
    Manifest.parse(open(path, "rb").read())

def peak():
    # Of this program alone: ru_maxrss would begin with the memory of the process that started it.
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", open("/proc/self/status").read())[1])

def seconds(work):
    start = time.process_time()
    work()
    return time.process_time() - start

def refuse(path):
    try:
        read(path)
    except HubError as error:
        report["refused"][path] = error.message

read = {"header": read_header, "config": read_config, "manifest": read_manifest, "card": read_card}[sys.argv[1]]
block = bytes(1 << 20)
parse_front_matter("a: b")
report = {"refused": {}, "seconds": {}, "before": peak()}
report["hashing"] = 5 * seconds(lambda: [hashlib.sha256(block).digest() for _ in range(200)])
for path in sys.argv[2:]:
    report["seconds"][path] = seconds(lambda: refuse(path))
report["peak"] = peak() - report["before"]
print(json.dumps(report))
"""


def read_in_child(reader: str, paths: Sequence[Path]) -> dict[str, Any]:
    """Read every file in turn; return what was refused, how long each took, and by how much the memory grew.

    reader: header, config, manifest or card.  `hashing` is how long hashing 1 GB takes there.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("a process's own peak memory is read from /proc, which this system does not have")
    command = [sys.executable, "-c", _CHILD, reader, *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check_bombs(reader: str, bombs: Mapping[str, bytes], folder: Path) -> None:
    """Assert that every bomb is refused within the time of hashing 1.5 GB, and all within 100 MB of memory."""
    paths = []
    for number, bomb in enumerate(bombs.values()):
        paths.append(folder / str(number))
        paths[-1].write_bytes(bomb)
    report = read_in_child(reader, paths)
    assert report["peak"] < 100_000_000
    for name, path in zip(bombs, map(str, paths), strict=True):
        assert path in report["refused"], name
        # 0.9 s on the machine that the rule of one second was made for.
        assert report["seconds"][path] < 1.5 * report["hashing"], name
