"""The command line as such: help without weight, usage errors, exit codes, output for people and for programs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from hub.cli import COMMANDS, EPILOG, LazyGroup, load_command, lorahub
from hub.errors import error_classes
from tests.support.server import clean_env, run_cli


@pytest.fixture
def alone(tmp_path):
    """The environment of a machine that reaches no registry."""
    return clean_env(tmp_path) | {"LORAHUB_ENDPOINT": "http://127.0.0.1:9"}


HEAVY = {
    *("torch", "transformers", "bitsandbytes", "peft", "numpy", "flask", "sqlalchemy", "alembic", "gunicorn"),
    *("httpx2", "httpcore2", "huggingface_hub", "rich", "tenacity", "filelock", "platformdirs", "safetensors", "yaml"),
}


def loaded_modules(*arguments: str) -> set[str]:
    code = (
        "import sys\nfrom hub.cli import run_command\n"
        f"run_command({list(arguments)!r})\n"
        "print('LOADED', *sorted({name.split('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.rpartition("LOADED")[2].split())


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("no-such-command",)])
def test_help_imports_nothing_heavy(arguments):
    assert not loaded_modules(*arguments) & HEAVY


def test_the_help_of_a_command_imports_no_engine():
    engines = {"torch", "transformers", "flask", "sqlalchemy", "httpx2", "rich", "numpy"}
    for name in ("push", "pull", "serve", "summary"):
        assert not loaded_modules(name, "--help") & engines, name


def test_help_names_every_command_with_what_it_does(alone):
    text = run_cli("--help", env=alone).stdout
    listed = {line.split()[0] for line in text.splitlines() if line.startswith("  ") and line.strip()}
    assert listed >= set(lorahub.list_commands(None))
    assert "Exit codes" in text
    assert "LORAHUB_ENDPOINT" in text


@pytest.mark.parametrize("name", lorahub.list_commands(None))
def test_every_listed_command_can_be_loaded_and_explains_itself(name):
    command = load_command(name)
    assert command.help
    assert COMMANDS[name][1].endswith(".")


def test_the_verbs_of_the_specification_are_there():
    wanted = "serve login logout whoami push pull list search show check summary diff doctor alias yank verify cache rm"
    assert set(wanted.split()) <= set(LazyGroup("x").list_commands(None))


def test_the_guide_names_every_command():
    guide = (Path(__file__).parents[2] / "docs" / "cli.md").read_text("utf-8")
    named = set(re.findall(r"^\| `lorahub ([a-z-]+)", guide, re.MULTILINE))
    assert named == set(lorahub.list_commands(None))


def test_every_exit_code_is_documented():
    raised = {cls.exit_code for cls in error_classes()}
    documented = {int(word) for word in EPILOG.replace(",", " ").replace(".", " ").split() if word.isdigit()}
    assert raised | {0, 130} <= documented


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["frobnicate"], "No such command"),
        (["pull"], "Missing argument"),
        (["push", ".", "task/qa", "--bogus"], "No such option"),
        (["pull", "Task/QA"], "lower-case"),
        (["pull", "task/qa@not a version"], "selects no version"),
        (["pull", "../../etc/passwd"], "namespace"),
        (["push", ".", "task/qa@v3"], "names a version"),
        (["yank", "task/qa@prod", "--reason", "x"], "tomorrow"),
        (["alias", "task/qa@v1", "v7"], "reads as a version"),
        (["alias", "task/qa", "--delete"], "name the alias"),
        (["rm", "task/qa@v1"], "--yes"),
        (["login", "not-a-url"], "registry's address"),
    ],
)
def test_wrong_use_is_one_line_with_exit_2(arguments, said, lonely):
    done = lonely.run(*arguments)
    assert done.code == 2
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert said in done.err
    assert len(done.err.splitlines()) == 1


@pytest.mark.parametrize(
    "arguments",
    [["pull", "task/qa@v1"], ["list"], ["search", "x"], ["show", "task/qa"], ["whoami"], ["alias", "task/qa"]],
)
def test_without_a_server_exit_8_and_the_next_step(arguments, lonely):
    done = lonely.run(*arguments)
    assert done.code == 8
    assert done.out == ""
    assert done.err.startswith("error: No registry answers at http://127.0.0.1:9")
    assert "lorahub serve" in done.err
    assert len(done.err.splitlines()) == 1


def test_an_error_is_json_on_stdout_when_json_was_asked_for(lonely):
    done = lonely.run("list", "--json")
    assert json.loads(done.out)["error"]["code"] == "network"
    assert done.err.startswith("error: ")


def test_offline_without_a_cached_version_is_exit_8_with_the_next_step(lonely):
    done = lonely.run("pull", "task/qa@v1", LORAHUB_OFFLINE="1")
    assert done.code == 8
    assert "lorahub pull task/qa@v1" in done.err


def test_a_broken_config_file_is_named(lonely, tmp_path):
    path = tmp_path / "config" / "config.json"
    path.parent.mkdir()
    path.write_text("{broken")
    done = lonely.run("list")
    assert done.code == 2
    assert str(path) in done.err


def test_a_switch_that_is_neither_on_nor_off_is_refused(lonely):
    done = lonely.run("list", LORAHUB_OFFLINE="maybe")
    assert done.code == 2
    assert "LORAHUB_OFFLINE" in done.err


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts_call_back_the_command(shell, lonely):
    script = lonely.ok("completion", shell)
    assert "_LORAHUB_COMPLETE" in script
    assert "lorahub" in script


def test_completion_offers_commands(alone):
    ask = alone | {"_LORAHUB_COMPLETE": "bash_complete", "COMP_WORDS": "lorahub pu", "COMP_CWORD": "1"}
    assert {"plain,push", "plain,pull"} <= set(run_cli(env=ask).stdout.split())


def test_a_fault_of_ours_shows_no_traceback(monkeypatch, capsys):
    from hub import cli

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("boom")

    monkeypatch.setattr(cli.lorahub, "main", fail)
    assert cli.run_command(["list"]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("error: RuntimeError: boom.")
    assert "LORAHUB_DEBUG=1" in captured.err
    assert "Traceback" not in captured.err


def test_a_file_that_can_not_be_used_is_named_without_a_traceback(monkeypatch, capsys):
    from hub import cli

    def fail(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied", "/srv/cache")

    monkeypatch.setattr(cli.lorahub, "main", fail)
    assert cli.run_command(["pull", "task/qa"]) == 1
    assert capsys.readouterr().err.startswith("error: /srv/cache: Permission denied. Check")


def test_doctor_says_what_to_do_about_what_it_finds(lonely):
    done = lonely.run("doctor")
    assert done.code == 1
    lines = {line[9:22].strip(): line.split()[0] for line in done.out.splitlines() if not line.startswith(" ")}
    assert lines["python"] == "ok"
    assert "4-bit kernel" in lines
    assert lines["registry"] == "error"
    assert lines["cache"] == "ok"
    assert "-> lorahub serve" in done.out
    found = json.loads(lonely.run("doctor", "--json").out)
    assert {item["name"]: item["level"] for item in found} == lines


def test_doctor_sees_a_config_that_others_can_read(lonely, tmp_path):
    path = tmp_path / "config" / "config.json"
    path.parent.mkdir()
    path.write_text("{}")
    path.chmod(0o644)
    assert f"chmod 600 {path}" in lonely.run("doctor").out


def test_text_of_a_registry_can_not_drive_a_terminal():
    from hub.cli.terminal.output import cell

    assert cell("evil\x1b[2Jtext\r\n\u202ereversed") == "evil [2Jtext   reversed"
