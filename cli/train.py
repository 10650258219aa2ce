"""`lorahub train`: data in, a PEFT folder out."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hub.client.sources import Source

from .terminal.extras import needs
from .terminal.options import SOURCE, registry_option
from .terminal.output import Output, is_terminal, note, printing_json

if TYPE_CHECKING:
    from hub.training import TrainingStep


@click.command()
@click.argument("base")
@click.argument("data", type=click.Path(exists=True, dir_okay=False, path_type=Path), nargs=-1, required=True)
@click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help="New folder for the adapter.")
@click.option("--continue-from", type=SOURCE, metavar="REF|FOLDER", help="Adapter to go on from.")
@click.option("--rank", type=click.IntRange(1), help="[default: 8]")
@click.option("--alpha", type=click.FloatRange(0, min_open=True), help="[default: 16]")
@click.option("--target", "target_modules", multiple=True, help="Module to adapt, e.g. q_proj; several times.")
@click.option("--epochs", type=click.FloatRange(0, min_open=True), help="[default: 1]")
@click.option("--steps", type=click.IntRange(1), help="Instead of epochs.")
@click.option("--batch-size", type=click.IntRange(1), help="[default: 8]")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="[default: 2e-3]")
@click.option("--max-length", type=click.IntRange(1), help="Tokens per example.  [default: 512]")
@click.option("--quantize", type=click.Choice(["nf4"]), help="Train on a 4-bit base: QLoRA.")
@click.option("--seed", type=int, help="[default: 0]")
@click.option("--description", help="What the adapter does, in a sentence, for its card.")
@registry_option
@printing_json
def train(
    base: str,
    data: tuple[Path, ...],
    output: Path,
    continue_from: Source | None,
    registry: str | None,
    out: Output,
    **settings: Any,
) -> None:
    """Train an adapter for BASE on DATA: JSON Lines of {"prompt", "completion"} or {"messages"}.

    BASE is a model folder or a Hugging Face id.  Prints the adapter's folder, ready for `lorahub push`.
    """
    with needs("train"):
        from hub.training import train as run_training

    given = {name: value for name, value in settings.items() if value not in (None, ())}
    if "target_modules" in given:
        given["target_modules"] = list(given["target_modules"])
    trained = run_training(
        base,
        list(data),
        output,
        continue_from=continue_from,
        registry=registry,
        progress=_show_step,
        **given,
    )
    if out.as_json:
        out.json({"path": str(trained.path), "examples": trained.examples, "losses": list(trained.losses)})
        return
    losses = f"loss {trained.losses[0]:.3f} -> {trained.losses[-1]:.3f}" if trained.losses else ""
    note(f"{trained.examples} examples, {len(trained.losses)} steps, {trained.seconds:.0f} s; {losses}")
    out.line(str(trained.path))


def _show_step(step: TrainingStep) -> None:
    """One line that is written over on a terminal; every tenth step elsewhere."""
    left = step.seconds / step.step * (step.steps - step.step)
    text = f"step {step.step}/{step.steps}  loss {step.loss:.3f}  {left:.0f} s left"
    if is_terminal(sys.stderr):
        click.echo(f"\r{text}\x1b[K", err=True, nl=step.step == step.steps)
    elif step.step % 10 == 0 or step.step == step.steps:
        click.echo(text, err=True)
