"""`lorahub plan`: will training fit into memory?"""

from __future__ import annotations

import click

from .terminal.extras import needs
from .terminal.output import Output, printing_json


@click.command()
@click.argument("base")
@click.option("--rank", type=click.IntRange(1), default=8, show_default=True)
@click.option("--target", "target_modules", multiple=True, help="Module to adapt, e.g. q_proj; several times.")
@click.option("--quantize", type=click.Choice(["nf4"]), help="A 4-bit base: QLoRA.")
@click.option("--batch-size", type=click.IntRange(1), default=8, show_default=True)
@click.option("--sequence-length", type=click.IntRange(1), default=512, show_default=True, help="Tokens per example.")
@printing_json
def plan(
    base: str,
    rank: int,
    target_modules: tuple[str, ...],
    quantize: str | None,
    batch_size: int,
    sequence_length: int,
    out: Output,
) -> None:
    """Estimate the memory that `lorahub train` takes on BASE, from its config and headers alone."""
    with needs("train"):
        from hub.training import plan as make_plan
        from hub.training.targets import DEFAULT_TARGETS

    found = make_plan(
        base,
        rank=rank,
        target_modules=target_modules or DEFAULT_TARGETS,
        quantize=quantize,
        batch_size=batch_size,
        sequence_length=sequence_length,
    )
    if out.as_json:
        out.json({"parameters": found.parameters, "trainable": found.trainable, "bytes": found.parts()})
    else:
        out.line(str(found))
