"""What the commands print, for people, for pipes and for programs, against a real server."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from pathlib import Path

import pytest

from hub.formats.sizes import size_text
from tests.cli.conftest import Machine
from tests.client.tiny_base import write_base
from tests.support.adapters import write_adapter
from tests.support.fault_proxy import Fault, FaultProxy
from tests.support.server import run_cli

CARD = "---\nlicense: apache-2.0\ntags: [demo]\n---\n# An adapter\nIt answers in JSON.\n"


def push_new(machine: Machine, tmp_path: Path, name: str, *flags: str, seed: int) -> str:
    folder = write_adapter(tmp_path / f"adapter-{seed}", seed=seed, readme=CARD)
    return machine.ok("push", str(folder), name, *flags).strip()


def test_push_prints_the_ref_alone_and_pull_the_folder_alone(machine, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=40)
    pushed = machine.run("push", str(folder), "cmd/first", "--task", "qa", "-m", "the first", "--alias", "prod")
    assert (pushed.out, pushed.err) == ("cmd/first@v1\n", "")
    pulled = machine.run("pull", "cmd/first@prod")
    assert pulled.err == ""
    assert {path.name for path in Path(pulled.out.strip()).iterdir()} == {path.name for path in folder.iterdir()}
    shown = json.loads(machine.ok("show", "cmd/first@v1", "--json"))
    assert (shown["task"], shown["message"], shown["aliases"]) == ("qa", "the first", ["prod"])


def test_the_same_content_is_the_same_version(machine, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=41)
    assert machine.ok("push", str(folder), "cmd/same") == "cmd/same@v1\n"
    again = machine.run("push", str(folder), "cmd/same", "--json")
    answer = json.loads(again.out)
    assert (answer["ref"], answer["created"], answer["sent_bytes"]) == ("cmd/same@v1", False, 0)
    (folder / "README.md").write_text("# Now with a card\n")
    assert machine.ok("push", str(folder), "cmd/same") == "cmd/same@v2\n"


def test_a_dry_run_sends_nothing(machine, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=42)
    planned = json.loads(machine.ok("push", str(folder), "cmd/dry", "--dry-run", "--json"))
    assert machine.run("show", "cmd/dry").code == 3
    assert machine.ok("push", str(folder), "cmd/dry") == "cmd/dry@v1\n"
    assert json.loads(machine.ok("show", "cmd/dry@v1", "--json"))["digest"] == planned["digest"]
    assert machine.run("push", str(tmp_path), "cmd/dry", "--dry-run").code == 6


def test_a_dry_run_needs_no_server(lonely, tmp_path):
    folder = write_adapter(tmp_path / "adapter", seed=42)
    assert "adapter_model.safetensors" in lonely.ok("push", str(folder), "cmd/dry", "--dry-run")


def test_the_base_of_a_push_is_recorded_with_its_fingerprint(machine, tmp_path):
    folder, base = write_adapter(tmp_path / "adapter", seed=43), write_base(tmp_path / "base")
    ref = machine.ok("push", str(folder), "cmd/based", "--base", str(base)).strip()
    recorded = json.loads(machine.ok("show", ref, "--json"))["manifest"]["base"]
    assert recorded["id"] == "tests/tiny-llama"
    assert {"shapes", "weights", "sketch"} <= set(recorded)


def test_list_is_tab_separated_in_a_pipe_ids_when_quiet_and_json_on_request(machine, tmp_path):
    push_new(machine, tmp_path, "listed/one", "--task", "qa", seed=44)
    push_new(machine, tmp_path, "listed/two", seed=45)
    lines = [line.split("\t") for line in machine.ok("list", "listed").splitlines()]
    assert lines[0] == ["NAME", "LATEST", "TASK", "BASE", "RANK", "DOWNLOADS", "UPDATED"]
    assert [line[:3] for line in lines[1:]] == [["listed/one", "v1", "qa"], ["listed/two", "v1", ""]]
    assert machine.ok("list", "listed", "-q") == "listed/one\nlisted/two\n"
    assert [item["name"] for item in json.loads(machine.ok("list", "listed", "--json"))] == ["listed/one", "listed/two"]
    limited = machine.run("list", "listed", "--limit", "1")
    assert "1 of 2 are shown" in limited.err
    nothing = machine.run("list", "no-such-namespace")
    assert (nothing.code, nothing.out) == (0, "")


def test_search_finds_by_what_an_adapter_is(machine, tmp_path):
    push_new(machine, tmp_path, "found/small", "--task", "found-task", seed=46)
    wide = write_adapter(tmp_path / "wide", rank=32, seed=47, readme=CARD)
    machine.ok("push", str(wide), "found/wide", "--task", "found-task")
    assert machine.ok("search", "--task", "found-task", "-q", "--sort", "name") == "found/small\nfound/wide\n"
    assert machine.ok("search", "--task", "found-task", "--rank-max", "16", "-q") == "found/small\n"
    assert machine.ok("search", "--task", "found-task", "--rank-min", "16", "-q") == "found/wide\n"
    assert len(machine.ok("search", "--task", "found-task", "--size-max", "1", "-q").splitlines()) == 2
    machine.ok("metric", "found/wide@v1", "accuracy", "0.93")
    assert machine.ok("search", "--metric", "accuracy>=0.9", "--task", "found-task", "-q") == "found/wide\n"
    assert machine.ok("search", "--metric", "accuracy>=0.95", "--task", "found-task", "-q") == ""
    assert machine.run("search", "--metric", "accuracy").code == 2
    assert "found/wide" in machine.ok("search", "wide", "-q")
    assert machine.ok("search", "--task", "no-such-task", "-q") == ""


def test_show_names_versions_aliases_and_states(machine, tmp_path):
    for seed in (48, 49):
        push_new(machine, tmp_path, "cmd/shown", seed=seed)
    machine.ok("alias", "cmd/shown@v1", "stable")
    machine.ok("deprecate", "cmd/shown@v1", "--reason", "old", "--successor", "cmd/shown@v2")
    text = machine.ok("show", "cmd/shown")
    rows = [line.split("\t") for line in text.splitlines() if line.startswith("v")]
    assert [row[0] for row in rows] == ["v2", "v1"]
    assert rows[1][6:8] == ["@stable", "deprecated: old (use cmd/shown@v2)"]
    assert machine.ok("show", "cmd/shown", "-q") == "cmd/shown@v2\ncmd/shown@v1\n"
    warned = machine.run("pull", "cmd/shown@stable")
    assert "deprecated: old. Use cmd/shown@v2" in warned.err
    both = json.loads(machine.ok("show", "cmd/shown", "--json"))
    assert both["adapter"]["latest"] == "v2"
    assert len(both["versions"]) == 2


def test_show_tells_where_a_version_comes_from_and_how_good_it_is(machine, tmp_path):
    first = push_new(machine, tmp_path, "cmd/lineage", seed=64)
    second = write_adapter(tmp_path / "second", seed=65)
    ref = machine.ok("push", str(second), "cmd/lineage", "--trained-from", first).strip()
    machine.ok("metric", ref, "accuracy", "0.9")
    machine.ok("metric", ref, "accuracy", "0.93", "--dataset", "held-out")
    text = machine.ok("show", ref)
    assert f"trained from\t{first}" in text
    assert "accuracy 0.93 (held-out)" in text
    assert machine.run("metric", "cmd/lineage@latest", "accuracy", "1").code == 2


def test_aliases_move_only_from_where_they_are_expected(machine, tmp_path):
    for seed in (50, 51):
        push_new(machine, tmp_path, "cmd/alias", seed=seed)
    assert machine.ok("alias", "cmd/alias@v1", "prod") == "cmd/alias@prod -> v1\n"
    assert machine.run("alias", "cmd/alias@v2", "prod", "--expect", "none").code == 5
    assert machine.ok("alias", "cmd/alias@v2", "prod", "--expect", "v1") == "cmd/alias@prod -> v2\n"
    assert machine.ok("alias", "cmd/alias", "-q") == "prod\n"
    moves = json.loads(machine.ok("alias", "cmd/alias", "prod", "--history", "--json"))
    assert [(move["from"], move["to"]) for move in moves] == [(1, 2), (None, 1)]
    machine.ok("alias", "cmd/alias", "prod", "--delete")
    assert machine.run("pull", "cmd/alias@prod").code == 3


def test_a_deleted_version_is_gone_and_its_number_is_never_used_again(machine, tmp_path):
    push_new(machine, tmp_path, "cmd/gone", seed=52)
    machine.ok("rm", "cmd/gone@v1", "--yes")
    assert machine.run("pull", "cmd/gone@v1").code == 3
    assert push_new(machine, tmp_path, "cmd/gone", seed=53) == "cmd/gone@v2"


def test_summary_prints_pefts_line_first(machine, tmp_path):
    base = write_base(tmp_path / "base")
    ref = push_new(machine, tmp_path, "cmd/summary", seed=54)
    # rank 4 on q and v of two layers of 32 x 32; the base: 2 embeddings, 2 layers, 1 norm.
    trainable = 2 * 2 * 4 * (32 + 32)
    total = trainable + 2 * 64 * 32 + 2 * (4 * 32 * 32 + 3 * 32 * 64 + 2 * 32) + 32
    line = f"trainable params: {trainable:,} || all params: {total:,} || trainable%: {100 * trainable / total:.4f}"
    for adapter in (ref, str(tmp_path / "adapter-54")):
        assert machine.ok("summary", adapter, "--base", str(base)).splitlines()[0] == line
    assert json.loads(machine.ok("summary", ref, "--base", str(base), "--json"))["total"] == total


def test_diff_compares_versions_and_folders(machine, tmp_path):
    first = push_new(machine, tmp_path, "cmd/diff", seed=55)
    push_new(machine, tmp_path, "cmd/diff", seed=56)
    same = machine.ok("diff", first, str(tmp_path / "adapter-55"))
    other = machine.ok("diff", first, "cmd/diff@v2")
    assert same != other
    assert json.loads(machine.ok("diff", first, "cmd/diff@v2", "--json"))


def test_the_cache_lists_verifies_and_empties_itself(machine, tmp_path):
    ref = push_new(machine, tmp_path, "cmd/cached", seed=57)
    folder = Path(machine.ok("pull", ref).strip())
    assert machine.ok("cache", "list", "-q") == f"{ref}\n"
    listed = json.loads(machine.ok("cache", "list", "--json"))
    assert [(item["ref"], item["path"]) for item in listed] == [(ref, str(folder))]
    assert "all as published" in machine.ok("cache", "verify")
    assert machine.ok("cache", "path").strip() == machine.env["LORAHUB_CACHE"]
    (folder / "adapter_config.json").chmod(0o644)
    (folder / "adapter_config.json").write_text("{}")
    broken = machine.run("cache", "verify")
    assert broken.code == 6
    assert "adapter_config.json" in broken.err or "snapshots/cmd/cached" in broken.err
    assert machine.ok("pull", ref).strip() == str(folder)
    assert json.loads(machine.ok("cache", "rm", ref, "--json"))["files"] == 3
    assert machine.run("cache", "list").out == ""
    assert machine.run("cache", "rm", "cmd/never@v1").code == 3


def test_completion_offers_what_the_cache_knows(machine, tmp_path):
    ref = push_new(machine, tmp_path, "cmd/complete", "--alias", "prod", seed=58)
    machine.ok("pull", ref)
    for typed, offered in (("cmd/co", "cmd/complete"), (f"{ref.partition('@')[0]}@", "cmd/complete@prod")):
        ask = {"_LORAHUB_COMPLETE": "bash_complete", "COMP_WORDS": f"lorahub pull {typed}", "COMP_CWORD": "2"}
        assert f"plain,{offered}" in run_cli(env=machine.env | ask).stdout.split()


def test_who_may_read_an_adapter_is_shown_and_changed(machine, tmp_path):
    push_new(machine, tmp_path, "cmd/members", seed=59)
    assert machine.ok("access", "cmd/members") == "cmd/members is public\n"
    assert machine.ok("access", "cmd/members", "--gated") == "cmd/members is public, gated\n"
    assert "gated\tyes" in machine.ok("show", "cmd/members")
    said = json.loads(machine.ok("access", "cmd/members", "--private", "--open", "--json"))
    assert said == {"adapter": "cmd/members", "private": True, "gated": False}


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (1500, "1.5 kB"), (200_000_000, "200 MB")])
def test_sizes_read_as_people_write_them(size, text):
    assert size_text(size) == text


# --- on a terminal


def on_a_terminal(machine: Machine, *arguments: str, stdout_too: bool = True, **env: str) -> tuple[str, str]:
    """Run a command with a terminal as stderr (and stdout); return what the terminal and the pipe got."""
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "hub.cli", *arguments]
    settings = machine.env | {"TERM": "xterm", "COLUMNS": "120"} | env
    settings = {key: value for key, value in settings.items() if value}
    stdout = theirs if stdout_too else subprocess.PIPE
    child = subprocess.Popen(command, env=settings, stdin=theirs, stdout=stdout, stderr=theirs)
    os.close(theirs)
    seen = bytearray()
    while True:
        ready, _, _ = select.select([ours], [], [], 60)
        try:
            data = os.read(ours, 65536) if ready else b""
        except OSError:  # the other end is closed
            data = b""
        if not data:
            break
        seen += data
    piped = child.stdout.read().decode() if child.stdout else ""
    child.wait(60)
    os.close(ours)
    return seen.decode("utf-8", "replace"), piped


@pytest.fixture
def slow_line(server):
    with FaultProxy(int(server.url.rpartition(":")[2])) as proxy:
        proxy.always = Fault(bytes_per_second=1_500_000)
        yield proxy


@pytest.fixture
def slow_machine(machine, slow_line):
    machine.env["LORAHUB_ENDPOINT"] = slow_line.url
    return machine


def test_a_terminal_sees_a_bar_with_rate_and_time_left_and_stdout_stays_clean(slow_machine, slow_line, tmp_path):
    # More than the sockets on the way hold: what they take at once has no rate.
    folder = write_adapter(tmp_path / "adapter", rank=64, hidden=1024, layers=14, seed=59)
    slow_line.always = Fault(toward="server", bytes_per_second=8_000_000)
    seen, piped = on_a_terminal(slow_machine, "push", str(folder), "cmd/bar", stdout_too=False)
    assert piped == "cmd/bar@v1\n"
    assert "sending" in seen
    assert re.search(r"\d+(\.\d+)? ?[kM]B/s", seen), "a rate"
    assert re.search(r"\d+:\d\d:\d\d", seen), "the time left"
    slow_line.always = Fault(bytes_per_second=8_000_000)
    seen, piped = on_a_terminal(slow_machine, "pull", "cmd/bar", stdout_too=False)
    assert "fetching" in seen
    assert Path(piped.strip()).is_dir()


def test_a_terminal_gets_a_table_in_color_and_without_under_no_color(machine, tmp_path):
    push_new(machine, tmp_path, "cmd/table", seed=60)
    seen, _ = on_a_terminal(machine, "list", "cmd", NO_COLOR="")
    assert "cmd/table" in seen
    assert "\t" not in seen
    assert "\x1b[1m" in seen
    plain, _ = on_a_terminal(machine, "list", "cmd", NO_COLOR="1")
    assert "\x1b[3" not in plain
    error, _ = on_a_terminal(machine, "pull", "cmd/none", NO_COLOR="")
    assert "\x1b[31m" in error
    error, _ = on_a_terminal(machine, "pull", "cmd/none", NO_COLOR="1")
    assert "\x1b[" not in error


def test_a_pipe_sees_no_bar(slow_machine, tmp_path):
    folder = write_adapter(tmp_path / "adapter", rank=64, hidden=1024, layers=1, seed=61)
    done = run_cli("push", str(folder), "cmd/quiet", env=slow_machine.env)
    assert (done.stdout, done.stderr) == ("cmd/quiet@v1\n", "")


def test_an_alias_that_moved_is_as_protected_as_it_was(machine, tmp_path):
    push_new(machine, tmp_path, "cmd/guarded", seed=71)
    push_new(machine, tmp_path, "cmd/guarded", seed=72)
    machine.ok("alias", "cmd/guarded@v1", "prod", "--protected")
    moved = json.loads(machine.ok("alias", "cmd/guarded@v2", "prod", "--json"))
    assert moved == {"adapter": "cmd/guarded", "alias": "prod", "version": 2, "protected": True}


def test_a_whole_adapter_is_deprecated_and_the_advice_is_taken_back(machine, tmp_path):
    push_new(machine, tmp_path, "cmd/older", seed=73)
    push_new(machine, tmp_path, "cmd/newer", seed=74)
    machine.ok("deprecate", "cmd/older", "--reason", "too small", "--successor", "cmd/newer")
    shown = json.loads(machine.ok("show", "cmd/older", "--json"))["adapter"]["deprecated"]
    assert (shown["reason"], shown["successor"]) == ("too small", "cmd/newer")
    machine.ok("deprecate", "cmd/older", "--undo")
    assert json.loads(machine.ok("show", "cmd/older", "--json"))["adapter"]["deprecated"] is None
    assert machine.run("deprecate", "cmd/older").code == 2


def test_an_empty_namespace_is_said_to_be_empty(machine, tmp_path):
    push_new(machine, tmp_path, "cmd/there", seed=75)
    machine.ok("namespace", "create", "vacant")
    listed = machine.run("list", "vacant")
    assert (listed.code, listed.out) == (0, "")
    assert "vacant has no adapters" in listed.err
    assert "There are no adapters yet" not in listed.err


def test_bases_are_listed_and_shown(machine, tmp_path):
    push_new(machine, tmp_path, "cmd/based", seed=76)
    [name, *_] = json.loads(machine.ok("base", "list", "--json"))
    assert json.loads(machine.ok("base", "show", name["id"], "--json"))["id"] == name["id"]
    missing = machine.run("base", "show", "nobody/nothing")
    assert (missing.code, "lorahub base list" in missing.err) == (3, True)
