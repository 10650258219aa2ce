"""What moves passes through; it is never held."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.conftest import write_large_adapter

CHILD = """
import json, resource, sys
import hub, hub.api, hub.client.bases, hub.client.checking
def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
hub.search()
idle = peak()
version = hub.push(sys.argv[1], "memory/large")
pushed = peak()
hub.pull(version.ref)
print(json.dumps({"idle": idle, "push": pushed - idle, "pull": peak() - idle}))
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_file(server, tmp_path: Path):
    """400 MB, through a process that may grow by a fifth of that over idle: 80 MB."""
    folder = write_large_adapter(tmp_path / "adapter", 400)
    env = os.environ | server.env | {"LORAHUB_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, str(folder)], env=env, capture_output=True, text=True, check=True
    )
    grown = json.loads(done.stdout)
    assert grown["push"] < 80e6, grown
    assert grown["pull"] < 80e6, grown
