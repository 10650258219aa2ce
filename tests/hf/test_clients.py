"""Stock Hugging Face clients against a real server, command by command.  The table of the docs is made here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.hf import environments
from tests.hf.clients import ABSENT, COMMANDS, OK
from tests.hf.conftest import Wire, run_python, seed_large, seed_qa
from tests.hf.table import END, START, Results, page_with_table, write_table

ROOT = Path(__file__).resolve().parents[2]


def run_client(client: str, wire: Wire, folders: dict[str, Path], tmp: Path) -> dict[str, str]:
    """Run every command with one client; return what each came to."""
    namespace = wire.namespace(f"c{client.replace('.', '-')}")
    seed_qa(wire, namespace, folders)
    seed_large(wire, namespace, folders)
    world = {
        "endpoint": wire.url,
        "token": wire.token,
        "reader_token": wire.reader_token,
        "namespace": namespace,
        "folders": {name: str(path) for name, path in folders.items()},
        "tmp": str(tmp),
    }
    (tmp / "world.json").write_text(json.dumps(world), "utf-8")
    results = tmp / "results.json"
    python = environments.python_of(client)
    command = ("-m", "tests.hf.clients", str(tmp / "world.json"), str(results))
    print(run_python(python, *command, env=wire.client_env(tmp), cwd=ROOT))
    outcome: dict[str, str] = json.loads(results.read_text("utf-8"))
    return outcome


@pytest.fixture(scope="session")
def own_results(wire: Wire, folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return run_client(environments.OWN, wire, folders, tmp_path_factory.mktemp("own-client"))


@pytest.fixture(scope="session")
def all_results(
    wire: Wire, folders: dict[str, Path], own_results: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Results:
    """Run the older clients too, and write the table of the documentation."""
    results = {environments.OWN: own_results}
    for client in environments.OTHERS:
        if not environments.is_ready(client):
            pytest.skip(f"huggingface_hub {client} is not installed: python -m tests.hf.environments")
        results[client] = run_client(client, wire, folders, tmp_path_factory.mktemp(f"client-{client}"))
    write_table(results)
    return results


@pytest.mark.parametrize("title", COMMANDS)
def test_the_newest_client(title: str, own_results: dict[str, str]) -> None:
    assert own_results[title] == OK, own_results[title]


@pytest.mark.engines
@pytest.mark.parametrize("client", environments.OTHERS)
@pytest.mark.parametrize("title", COMMANDS)
def test_an_older_client(client: str, title: str, all_results: Results) -> None:
    assert all_results[client][title] in {OK, ABSENT}, all_results[client][title]


def test_the_documentation_lists_what_is_tested() -> None:
    rows = [line for line in page_with_table().partition(START)[2].partition(END)[0].splitlines() if " | ✓ |" in line]
    shown = [row.removeprefix("| ").partition(" | ")[0].replace(chr(92) + "|", "|") for row in rows]
    assert shown == list(COMMANDS), "run `make test-engines`: the table shows other commands, or in another order"
