"""`lorahub run`: prompts in, answers out."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Unpack

import click

from hub.client.sources import Source

from .terminal.extras import needs
from .terminal.options import SOURCE, LoadFlags, load_options, loading
from .terminal.output import Output, is_terminal, printing_json

if TYPE_CHECKING:
    from hub.runtime import Model


@click.command()
@click.argument("base")
@click.argument("ref", type=SOURCE, required=False, metavar="[REF|FOLDER]")
@click.option("-p", "--prompt", "prompts", multiple=True, help="Several times for several prompts.")
@click.option("--max-new-tokens", type=click.IntRange(1), default=256, show_default=True)
@load_options
@printing_json
def run(
    base: str,
    ref: Source | None,
    prompts: tuple[str, ...],
    max_new_tokens: int,
    out: Output,
    **flags: Unpack[LoadFlags],
) -> None:
    """Answer prompts with the model BASE and the adapter REF; without REF, with the bare base.

    Without --prompt, every line of stdin is one.  The base is loaded in 4 bit; the likeliest tokens are chosen.
    """
    with needs("load"):
        from hub.runtime import load

    model = load(base, *([ref] if ref else []), **loading(flags))
    for prompt in prompts or _lines():
        answer = _answer(model, prompt, max_new_tokens)
        if out.as_json:
            click.echo(_json_line(prompt, answer))
        else:
            out.line(answer)


def _lines() -> Iterator[str]:
    is_watched = is_terminal(sys.stdin)
    while True:
        if is_watched:
            click.echo("> ", nl=False, err=True)
        line = sys.stdin.readline()
        if not line:
            return
        if line.strip():
            yield line.strip()


def _answer(model: Model, prompt: str, max_new_tokens: int) -> str:
    """One answer, the likeliest token at a time; in the base's chat form where it has one."""
    tokenizer = model.tokenizer
    if getattr(tokenizer, "chat_template", None):
        messages = [{"role": "user", "content": prompt}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        inputs = tokenizer(prompt, return_tensors="pt")
    inputs = inputs.to(model.base.device)
    made = model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
    return str(tokenizer.decode(made[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)).strip()


def _json_line(prompt: str, answer: str) -> str:
    import json

    return json.dumps({"prompt": prompt, "answer": answer}, ensure_ascii=False)
