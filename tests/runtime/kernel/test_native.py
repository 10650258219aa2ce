"""The compiled code by itself: under sanitizers, on another processor, and as a package built without a compiler."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from hub.runtime.kernel import ways

ROOT = Path(__file__).resolve().parents[3]
NATIVE = ROOT / "hub" / "runtime" / "kernel" / "native"
SOURCES = sorted(path for path in NATIVE.glob("*.c") if path.name != "module.c")
CHECK = Path(__file__).with_name("check.c")
# Unrolled loops under sanitizers compile ten times as long at -O2.
FLAGS = ["-std=gnu11", "-O1", "-g", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror"]

pytestmark = pytest.mark.slow


def compiled(compiler: str, folder: Path, *flags: str) -> Path:
    if shutil.which(compiler) is None:
        pytest.skip(f"no {compiler} here")
    program = folder / "check"
    command = [compiler, *FLAGS, *flags, f"-I{NATIVE}", CHECK, *SOURCES, "-o", program, "-lm", "-ldl"]
    subprocess.run(list(map(str, command)), check=True)
    return program


def run(*command: str | Path) -> dict[str, int]:
    """Return how many cases each way has passed."""
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=900)
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: int(cases) for name, cases in map(str.split, done.stdout.splitlines())}


@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_no_way_reads_or_writes_where_it_must_not(compiler: str, tmp_path: Path) -> None:
    """AddressSanitizer and UndefinedBehaviorSanitizer, in buffers that are not a byte too long."""
    sanitize = "-fsanitize=address,undefined"
    program = compiled(compiler, tmp_path, sanitize, "-fno-sanitize-recover=all")
    assert run(program, "300") == dict.fromkeys(ways.available(), 300)


def test_the_check_would_see_a_read_too_far(tmp_path: Path) -> None:
    program = compiled("gcc", tmp_path, "-fsanitize=address", "-DMISSING=1")
    done = subprocess.run([program, "5"], capture_output=True, text=True, timeout=300)
    assert done.returncode != 0
    assert "heap-buffer-overflow" in done.stderr


def test_neon_computes_the_same_on_an_emulated_arm(tmp_path: Path) -> None:
    emulator = shutil.which("qemu-aarch64-static") or shutil.which("qemu-aarch64")
    if emulator is None:
        pytest.skip("no qemu-aarch64 here")
    program = compiled("aarch64-linux-gnu-gcc", tmp_path, "-static")
    assert run(emulator, program, "60") == {"neon": 60, "portable": 60}


@pytest.mark.parametrize("compiler", ["gcc", "false"])
def test_a_wheel_is_built_with_and_without_a_compiler(compiler: str, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("hub", "cli", "web", "migrations"):
        ignored = shutil.ignore_patterns("__pycache__", "*.so", "build")
        shutil.copytree(ROOT / name, source / name, ignore=ignored)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    options = ["--no-deps", "--no-build-isolation", "--no-index", "-w", str(tmp_path)]
    command = [sys.executable, "-m", "pip", "wheel", *options, str(source)]
    subprocess.run(command, check=True, env={**os.environ, "CC": compiler}, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    members = zipfile.ZipFile(wheel).namelist()
    assert ("hub/runtime/kernel/_native.abi3.so" in members) == (compiler == "gcc")
    assert "hub/runtime/kernel/products.py" in members
    assert not any("/native/" in name for name in members)
    if compiler == "gcc":
        assert "-cp311-abi3-" in wheel.name
