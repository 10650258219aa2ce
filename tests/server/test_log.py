"""What an operator reads in the log."""

from __future__ import annotations

import json
import subprocess
import sys

FAILS = """
import logging
from hub.web.server.log import configure_logging
configure_logging()
try:
    {}["lhub_canary-canary"]
except KeyError:
    logging.getLogger("x").exception("it failed")
"""


def test_an_error_is_logged_with_its_traceback_and_without_its_secrets() -> None:
    written = subprocess.run([sys.executable, "-c", FAILS], capture_output=True, text=True, check=True).stderr
    line = json.loads(written)
    assert line["event"] == "it failed"
    assert "Traceback (most recent call last)" in line["exception"]
    assert "KeyError" in line["exception"]
    assert "canary" not in written
