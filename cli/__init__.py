"""The `lorahub` command.

Each command is one module, imported when it runs: `lorahub --help` loads click and nothing else.  A command parses its
arguments, calls one library function and prints the result; this module turns whatever is raised into one line on
stderr and the documented exit code.

    0 ok · 1 error · 2 usage · 3 not found · 4 not allowed · 5 conflict · 6 integrity · 7 incompatible · 8 network ·
    130 interrupted
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.util import find_spec

import click

from hub import __version__
from hub.errors import HubError

EPILOG = """\b
Exit codes: 0 ok, 1 error, 2 usage, 3 not found, 4 not allowed, 5 conflict,
6 damaged or malformed files, 7 incompatible, 8 network, 130 interrupted.
\b
Environment: LORAHUB_ENDPOINT (the registry), LORAHUB_TOKEN, LORAHUB_CACHE,
LORAHUB_OFFLINE=1 (use the cache, ask nobody), LORAHUB_CONFIG, NO_COLOR.
"""

INTERRUPTED = 130
_BROKEN_PIPE = 141

# name -> (module, what --help says).  The texts stand here so that --help imports no command.
COMMANDS: dict[str, tuple[str, str]] = {
    "push": ("push", "Publish a PEFT folder as the next version of an adapter."),
    "pull": ("pull", "Fetch a version into the cache and print its folder."),
    "list": ("list", "List the adapters of the registry."),
    "search": ("list", "Search adapters by text, task, base, rank and more."),
    "show": ("show", "Show an adapter's versions and aliases, or one version."),
    "check": ("check", "Say whether an adapter fits a base model, and why not."),
    "summary": ("summary", "Count an adapter's parameters, as PEFT does."),
    "diff": ("diff", "Compare two adapters: config, tensors, direction of the update."),
    "access": ("access", "Show or change who may read an adapter."),
    "alias": ("alias", "Point a movable name, such as @prod, at a version."),
    "yank": ("yank", "Mark a version as one that nobody should choose."),
    "unyank": ("yank", "Take a yank back."),
    "deprecate": ("yank", "Advise against a version, and name its successor."),
    "metric": ("metric", "Attach the result of an evaluation to a version."),
    "rm": ("rm", "Delete a young version, or an adapter whose versions are all young."),
    "verify": ("verify", "Hash a cached version again."),
    "cache": ("cache", "List, verify and empty the local cache."),
    "login": ("login", "Store a token for a registry."),
    "logout": ("login", "Forget the token of a registry."),
    "whoami": ("login", "Show whom the registry takes you for."),
    "doctor": ("doctor", "Check that this machine has what lorahub needs."),
    "demo": ("demo", "Run the whole way on a small real model: train, push, load, merge."),
    "train": ("train", "Train an adapter on a base model."),
    "plan": ("plan", "Estimate the memory that training takes."),
    "run": ("run", "Answer prompts with a base and adapters."),
    "merge": ("merge", "Merge an adapter into its base and save the model."),
    "serve": ("serve", "Start the registry and its web catalog."),
    "token": ("token", "Make, list and revoke tokens."),
    "base": ("base", "See which base models adapters were trained for."),
    "namespace": ("namespace", "Manage namespaces and their members."),
    "user": ("user", "Manage users."),
    "db": ("db", "Upgrade the registry's database."),
    "gc": ("gc", "Remove blobs that no version uses."),
    "fsck": ("fsck", "Check the registry's rows against its blobs."),
    "backup": ("backup", "Back a running registry up."),
    "restore": ("backup", "Restore a backup."),
    "import": ("import_", "Import an adapter from another registry or hub."),
    "completion": ("completion", "Print the shell's completion script."),
}


class LazyGroup(click.Group):
    """A group whose commands are imported when they are called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [name for name, (module, _) in COMMANDS.items() if find_spec(f"{__name__}.{module}")]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS or not find_spec(f"{__name__}.{COMMANDS[cmd_name][0]}"):
            return None
        return load_command(cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])


def load_command(name: str) -> click.Command:
    """Import a command: the attribute of its module that has its name, or else is called `command`."""
    module = import_module(f"{__name__}.{COMMANDS[name][0]}")
    for attribute in (name, f"{name}_", f"{name}_command", "command"):
        found = getattr(module, attribute, None)
        if isinstance(found, click.Command):
            return found
    raise AttributeError(f"{module.__name__} defines no command {name!r}")


@click.command(
    cls=LazyGroup,
    epilog=EPILOG,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    no_args_is_help=True,
)
@click.version_option(__version__, prog_name="lorahub")
def lorahub() -> None:
    """Versioned LoRA adapters: push, pull, check and run them."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit."""
    code = run_command(list(sys.argv[1:] if arguments is None else arguments))
    _leave(code)


def run_command(arguments: list[str]) -> int:
    """Run one command; return its exit code.  Errors are printed here and nowhere else."""
    try:
        outcome = lorahub.main(arguments, prog_name="lorahub", standalone_mode=False)
    except HubError as error:
        return _show_hub_error(error, wants_json="--json" in arguments)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except (KeyboardInterrupt, click.exceptions.Abort):
        _show_error("interrupted. What was sent or fetched is kept: run the same command again to go on.")
        return INTERRUPTED
    except click.ClickException as error:
        return _show_usage_error(error)
    except BrokenPipeError:
        # The reader closed the pipe: print nothing more, not even at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _BROKEN_PIPE
    except OSError as error:
        return _show_os_error(error)
    except Exception as error:  # the one place that keeps tracebacks from users
        if os.environ.get("LORAHUB_DEBUG"):
            raise
        _show_error(f"{type(error).__name__}: {error}. This is a fault of lorahub: LORAHUB_DEBUG=1 shows where.")
        return 1
    return outcome if isinstance(outcome, int) else 0


def _show_hub_error(error: HubError, wants_json: bool) -> int:
    if wants_json:
        import json

        click.echo(json.dumps(error.to_json(), ensure_ascii=False))
    _show_error(error.message)
    return error.exit_code


def _show_usage_error(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context else "lorahub"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        click.echo(error.format_message(), err=True)
        return error.exit_code
    message = error.format_message().rstrip(".")
    _show_error(f"{message}{'' if message.endswith('?') else '.'} See: {path} --help")
    return error.exit_code


def _show_os_error(error: OSError) -> int:
    """Only the user can mend a file that can't be read or written: say which."""
    if os.environ.get("LORAHUB_DEBUG"):
        raise error
    where = f"{error.filename}: " if error.filename else ""
    _show_error(f"{where}{error.strerror or error}. Check that it is there and that you may use it, then try again.")
    return 1


def _show_error(message: str) -> None:
    """Print `error: …` on one line; findings that come as lines of their own stay so."""
    from .terminal.output import cell, paint_error

    first, *findings = [cell(line) for line in message.splitlines() if line.strip()] or ["unknown"]
    click.echo("\n".join([paint_error(first), *(f"  {line}" for line in findings)]), err=True)


def _leave(code: int) -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        code = _BROKEN_PIPE
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code == INTERRUPTED:
        # A worker thread may still wait for a silent server; its partial file is safe, so nobody waits for it.
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
