"""Which instruction set runs is chosen by name or by what there is, and said."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from hub.client.doctor import Check
from hub.errors import InvalidRequest, Unsupported
from hub.runtime import kernel, load
from hub.runtime.kernel import ways
from hub.runtime.kernel_check import check_kernel
from tests.runtime.support import load_model, write_adapter


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.delenv("LORAHUB_KERNEL", raising=False)
    yield
    monkeypatch.undo()
    kernel.choose()


def test_the_best_way_is_taken_when_none_is_named():
    assert kernel.choose("") == next(iter(ways.available().values()), None)


@pytest.mark.parametrize("name", list(ways.available()))
def test_a_named_way_is_taken_and_said(name, monkeypatch):
    monkeypatch.setenv("LORAHUB_KERNEL", name)
    assert kernel.choose().name == name
    assert kernel.describe() == name


def test_off_is_bitsandbytes_own_way(monkeypatch):
    monkeypatch.setenv("LORAHUB_KERNEL", "off")
    assert kernel.choose() is None
    assert kernel.current() is None
    assert "LORAHUB_KERNEL" in kernel.describe()


def test_an_unknown_name_is_refused_before_a_base_is_read(monkeypatch):
    monkeypatch.setenv("LORAHUB_KERNEL", "sse9")
    with pytest.raises(InvalidRequest, match=r"'sse9' is not known: use one of avx512, avx2, neon, portable, off"):
        load("./no-such-base")


def test_a_way_that_this_machine_lacks_is_refused_with_those_that_it_has(monkeypatch):
    there = ways.available()
    missing = next(name for name in ways.KNOWN if name not in there and name != "off")
    monkeypatch.setenv("LORAHUB_KERNEL", missing)
    with pytest.raises(Unsupported, match=rf"{missing} can't be used: this machine has {', '.join(there)} and off"):
        kernel.choose()


def test_without_a_compiled_module_everything_goes_the_general_way(monkeypatch):
    monkeypatch.setattr(ways, "native", None)
    assert kernel.choose("") is None
    assert "no C compiler" in kernel.describe()
    with pytest.raises(Unsupported, match="no C compiler"):
        kernel.choose("avx2")


def test_the_best_way_is_one_that_the_cpu_flags_promise():
    """The flags are the operating system's own list, not our detection."""
    cpuinfo = Path("/proc/cpuinfo")
    if not cpuinfo.exists():
        pytest.skip("no /proc/cpuinfo here")
    lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith(("flags", "Features"))]
    flags = set(lines[0].split(":")[1].split())
    there = set(ways.available())
    assert ("avx512" in there) == ("avx512f" in flags)
    assert ("avx2" in there) == ({"avx2", "fma"} <= flags)
    assert ("neon" in there) == ("asimd" in flags)


def test_the_summary_says_what_computes_a_4_bit_base(base, tmp_path, monkeypatch):
    folder = write_adapter(base, tmp_path / "a", r=2, target_modules=["q_proj"])
    assert load_model(base, folder).summary().kernel is None
    monkeypatch.setenv("LORAHUB_KERNEL", "portable")
    summary = load_model(base, folder, quantize="nf4").summary()
    assert (summary.kernel, summary.to_json()["kernel"]) == ("portable", "portable")
    assert "4-bit kernel: portable" in str(summary)


def test_doctor_says_which_way_runs_and_what_is_wrong_with_one_that_does_not(monkeypatch):
    monkeypatch.setenv("LORAHUB_KERNEL", "portable")
    assert check_kernel() == Check("4-bit kernel", "ok", "portable")
    monkeypatch.setenv("LORAHUB_KERNEL", "sse9")
    assert (check_kernel().level, check_kernel().next_step) == ("error", "unset LORAHUB_KERNEL")
    monkeypatch.delenv("LORAHUB_KERNEL")
    monkeypatch.setattr(ways, "native", None)
    assert check_kernel().level == "warning"
    assert "C compiler" in check_kernel().next_step


def test_torch_s_threads_are_the_only_ones():
    """After products in two threads each, the process has no thread that torch alone would not have made."""
    code = """
import os, torch
from bitsandbytes.functional import quantize_4bit
from hub.runtime import kernel
torch.set_num_threads(2)
codes, state = quantize_4bit(torch.randn(2048, 1024))
x = torch.randn(600, 1024)
x @ x.T
before = len(os.listdir("/proc/self/task"))
for rows in (1, 8, 100):
    kernel.product(torch.randn(rows, 1024), codes, state, None)
print(before, len(os.listdir("/proc/self/task")), kernel.ways.native.has_team())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    before, after, has_team = done.stdout.split()
    assert has_team == "True"
    assert int(after) == int(before)
