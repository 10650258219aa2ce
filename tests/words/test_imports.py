"""The core stands on the standard library: it imports fast, and everything heavy only when it is used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import hub

ROOT = Path(hub.__file__).parent
WORDS = ["errors", "manifest", "refs", "settings"]
ROOMS = ["formats", "adapter", "base", "fit"]
CORE = WORDS + [f"{room}.{path.stem}" for room in ROOMS for path in sorted((ROOT / room).glob("[a-z]*.py"))]
HEAVY = {
    "torch",
    "numpy",
    "transformers",
    "peft",
    "bitsandbytes",
    "yaml",
    "httpx2",
    "huggingface_hub",
    "sqlalchemy",
    "flask",
}


def test_importing_the_core_imports_nothing_heavy():
    code = f"import sys, {', '.join(f'hub.{name}' for name in CORE)}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
