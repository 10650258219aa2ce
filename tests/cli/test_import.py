"""`lorahub import`: the registry fetches, under its rules for addresses."""

from __future__ import annotations

from tests.cli.conftest import Machine
from tests.support.adapters import write_adapter
from tests.support.server import RunningServer, running_server


def test_a_registry_imports_from_another_one_that_it_may_reach(machine: Machine, server: RunningServer, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=300)
    ref = machine.ok("push", str(folder), "origin/qa").strip()
    with running_server(tmp_path / "other", LORAHUB_TRUSTED_HOSTS="127.0.0.1") as other:
        there = {"LORAHUB_ENDPOINT": other.url, "LORAHUB_TOKEN": other.token}
        assert machine.ok("import", f"{server.url}/origin/qa", "copied/qa", **there) == "copied/qa@v1\n"
        again = machine.run("import", f"{server.url}/origin/qa", "copied/qa", **there)
        assert (again.code, again.out) == (0, "copied/qa@v1\n")
        assert "already" in again.err
        assert machine.run("diff", "copied/qa@v1", str(folder), **there).code == 0
    assert ref == "origin/qa@v1"


def test_an_address_on_a_private_network_is_refused(machine: Machine, server: RunningServer):
    result = machine.run("import", f"{server.url}/origin/qa", "copied/private")
    assert result.code != 0
    assert result.err.startswith("error: ")
    assert "127.0.0.1" in result.err
    assert machine.run("show", "copied/private").code == 3
