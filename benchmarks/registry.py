"""`make bench-registry`: the registry beside the limit and beside MLflow, and its queries at three sizes.

python -m benchmarks.registry                       everything (about half an hour)
python -m benchmarks.registry transfer --sizes 20 200
python -m benchmarks.registry queries --versions 1000 100000 --on sqlite
python -m benchmarks.registry load
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import registry_load, registry_queries, registry_transfer

MB = 1_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("part", nargs="?", choices=["all", "transfer", "queries", "load"], default="all")
    parser.add_argument("--sizes", type=int, nargs="+", default=[20, 200, 2000], help="of transfers, in MB")
    parser.add_argument("--versions", type=int, nargs="+", default=[1_000, 100_000, 1_000_000])
    parser.add_argument("--on", nargs="+", choices=["sqlite", "postgres"], default=["sqlite", "postgres"])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="lorahub-bench-") as place:
        if chosen.part in {"all", "transfer"}:
            registry_transfer.main(Path(place), [size * MB for size in chosen.sizes])
        if chosen.part in {"all", "load"}:
            registry_load.main(Path(place))
    if chosen.part in {"all", "queries"}:
        registry_queries.main(chosen.versions, chosen.on)


if __name__ == "__main__":
    main()
