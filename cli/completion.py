"""`lorahub completion`: the script that makes a shell complete commands, options and cached refs."""

from __future__ import annotations

import click

SHELLS = click.Choice(["bash", "zsh", "fish"])


@click.command()
@click.argument("shell", type=SHELLS)
def completion(shell: str) -> None:
    """Print the completion script of SHELL.

    \b
        bash   eval "$(lorahub completion bash)"       in ~/.bashrc
        zsh    eval "$(lorahub completion zsh)"        in ~/.zshrc
        fish   lorahub completion fish > ~/.config/fish/completions/lorahub.fish
    """
    from click.shell_completion import get_completion_class

    from . import lorahub

    kind = get_completion_class(shell)
    if kind is None:
        raise click.UsageError(f"click has no completion for {shell}")
    click.echo(kind(lorahub, {}, "lorahub", "_LORAHUB_COMPLETE").source())
