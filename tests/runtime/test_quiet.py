"""What bitsandbytes advises at import is kept from the terminal where it can't apply, and nothing else is."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest

from hub.runtime.quiet import silence_advice

# The record that bitsandbytes writes while it is imported on a CPU with AVX512-BF16, made here on any CPU.
_IMPORT = """
import logging
{before}
logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
logger.warning("Failed to load CPU gemm_4bit_forward from kernels-community: %s. Please make sure …", "no kernels")
logger.warning("something else")
"""


def test_the_runtime_prints_no_advice_about_kernels() -> None:
    def said(before: str) -> str:
        code = _IMPORT.format(before=before)
        return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stderr

    assert "gemm_4bit_forward" in said("")
    assert "gemm_4bit_forward" not in said("import hub.runtime")
    assert "something else" in said("import hub.runtime")


def test_importing_the_runtime_says_nothing() -> None:
    done = subprocess.run([sys.executable, "-c", "import hub.runtime"], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("", "")


def test_the_filter_is_hung_in_once(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("bitsandbytes.backends.cpu.ops")
    silence_advice()
    before = len(logger.filters)
    silence_advice()
    assert len(logger.filters) == before
