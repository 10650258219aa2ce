"""Run the battery: `python -m tests.battery --cases 200 --write docs/fidelity.md`.  Exits with 1 for a wrong answer."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections import Counter
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.battery", description=__doc__)
    parser.add_argument("--cases", type=int, default=200)
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--write", type=Path, help="write the page to this file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lorahub-battery-") as folder:
        outcomes = _run(Path(folder), range(arguments.first, arguments.first + arguments.cases))
    counts = Counter(outcome.verdict for outcome in outcomes)
    print(", ".join(f"{count:,} {verdict}" for verdict, count in counts.most_common()))
    if arguments.write:
        from tests.battery.report import page

        arguments.write.write_text(page(outcomes, arguments.first))
    return 1 if counts["wrong"] or counts["crashed"] else 0


def _run(root: Path, seeds: range) -> list:
    quiet(root)
    from tests.battery.oracle import Workshop
    from tests.battery.running import run

    workshop, outcomes = Workshop(root), []
    for seed in seeds:
        outcome = run(seed, workshop)
        outcomes.append(outcome)
        if outcome.verdict in ("wrong", "crashed"):
            case = outcome.case
            print(
                f"seed {seed}: {case.base} {case.type} {case.operation}: {outcome.verdict}: {outcome.detail}",
                flush=True,
            )
        if (seed + 1 - seeds.start) % 50 == 0:
            print(f"{seed + 1 - seeds.start:,} of {len(seeds):,}", file=sys.stderr, flush=True)
    return outcomes


def quiet(root: Path) -> None:
    """Settle everything outside: no hub, a cache of its own, one thread, and no remarks about tiny models."""
    os.environ |= {
        "HF_HUB_OFFLINE": "1",
        "LORAHUB_CACHE": str(root / "cache"),
        "LORAHUB_CONFIG": str(root / "config.json"),
    }
    import logging
    import warnings

    import torch
    import transformers

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    for name in ("bitsandbytes", "hub.runtime"):
        logging.getLogger(name).setLevel(logging.ERROR)


if __name__ == "__main__":
    sys.exit(main())
