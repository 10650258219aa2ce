"""Run every command; `results.json` gets {title: what it came to}."""

from __future__ import annotations

import json
import sys
import time
import traceback
from pathlib import Path

from tests.hf.clients import ABSENT, COMMANDS, OK
from tests.hf.clients.world import NotInThisVersion, World


def run_all(world: World) -> dict[str, str]:
    results = {}
    for title, function in COMMANDS.items():
        started = time.monotonic()
        try:
            function(world)
            results[title] = OK
        except NotInThisVersion:
            results[title] = ABSENT
        except Exception:  # noqa: BLE001  # every failure is a result
            results[title] = traceback.format_exc()
        print(f"{time.monotonic() - started:6.2f}s  {results[title].splitlines()[-1][:100]}  {title}", flush=True)
    return results


if __name__ == "__main__":
    outcome = run_all(World(json.loads(Path(sys.argv[1]).read_text("utf-8"))))
    Path(sys.argv[2]).write_text(json.dumps(outcome, indent=1), "utf-8")
