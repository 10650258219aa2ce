"""`lorahub merge`: a base and an adapter in, one model out."""

from __future__ import annotations

from pathlib import Path
from typing import Unpack

import click

from hub.client.sources import Source

from .terminal.extras import needs
from .terminal.options import SOURCE, LoadFlags, load_options, loading
from .terminal.output import Output, note, printing_json

MODES = click.Choice(["dequant", "from-base", "requant"])


@click.command()
@click.argument("base")
@click.argument("ref", type=SOURCE, metavar="REF|FOLDER")
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="New folder for the model.")
@click.option("--mode", type=MODES, default="dequant", show_default=True)
@load_options
@printing_json
def merge(
    base: str,
    ref: Source,
    output: Path,
    mode: str,
    out: Output,
    **flags: Unpack[LoadFlags],
) -> None:
    """Merge the adapter REF into the model BASE and save the result, for programs that know no adapters.

    \b
    dequant    16-bit weights that compute what the 4-bit base with its adapter does
    from-base  the adapter added to the original weights
    requant    back to 4 bit; refused where that would lose the adapter

    Prints the new folder; what the merge kept of the adapter is said on stderr.
    """
    from dataclasses import asdict

    with needs("load"):
        from hub.runtime import load

    model = load(base, ref, **loading(flags))
    report = model.merge(mode=mode)
    folder = model.save_merged(output)
    if out.as_json:
        out.json(asdict(report) | {"path": str(folder)})
        return
    for line in report.lines():
        note(line)
    out.line(str(folder))
