"""What a measurement was made on, in a line."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

_FLAGS = ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16", "asimd", "bf16")
"""The instructions that decide which code multiplies."""


def describe(threads: int, *packages: str) -> str:
    """Return date, cores, the CPU and its flags, threads, kernel, and the packages' versions."""
    from hub.runtime import kernel

    versions = ", ".join(f"{name} {version(name)}" for name in packages)
    flags = ", ".join(_flags()) or "flags unknown"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {_model()} ({flags}), {threads} "
        f"thread{'s' * (threads > 1)}, kernel {kernel.describe()}; Python {platform.python_version()}, {versions}."
    )


def _cpu_info() -> str:
    path = Path("/proc/cpuinfo")
    return path.read_text("utf-8") if path.exists() else ""


def _model() -> str:
    found = re.search(r"^model name\s*: (.+)$", _cpu_info(), re.MULTILINE)
    return found[1] if found else platform.machine()


def _flags() -> list[str]:
    found = re.search(r"^(?:flags|Features)\s*: (.+)$", _cpu_info(), re.MULTILINE)
    known = set(found[1].split()) if found else set()
    return [flag for flag in _FLAGS if flag in known]
