"""`lorahub demo`, whole: on a tiny base in the fast suite, on the real one in the slow one."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from hub.demo import model as demo_model
from hub.demo import story as demo
from hub.demo.console import DemoConsole, duration_text
from hub.demo.held_out import Score
from hub.demo.processes import Shell, demo_environment, serving, typed
from hub.demo.tasks import QA
from hub.errors import FileNotFound, HubError, InvalidRequest
from tests.support.server import clean_env
from tests.training.bases import write_base

COMMAND = [sys.executable, "-m", "hub.cli", "demo"]
STEPS = ["1. A real base", "2. A registry", "3. Train", "4. Push", "5. Load on a 4-bit base", "6. Merge"]


def test_on_a_base_that_learns_nothing_it_goes_the_whole_way_and_says_which_claims_fail(tmp_path: Path) -> None:
    """A random base of 50,000 weights can't learn a format: every step runs, and the exit tells the truth."""
    base = write_base(tmp_path / "tiny", initializer_range=0.02)
    kept = tmp_path / "kept"
    done = subprocess.run(
        [*COMMAND, "--base", str(base), "--keep", str(kept)],
        env=clean_env(tmp_path), capture_output=True, text=True, timeout=250, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert [step for step in STEPS if f"\n{step}" not in done.stdout] == []
    assert "task/qa@v2 gives one-line JSON in 0% of answers, less than 90%" in done.stderr
    assert "The catalog" not in done.stdout
    for command in ("push ./qa-v1 task/qa", "list", "show task/qa", "summary task/qa@v2", "check ", "pull task/qa@v2"):
        assert f"\n$ lorahub {command}" in done.stdout
    assert "The adapter fits this base." in done.stdout
    assert "The base has the weights that the adapter was trained on." in done.stdout
    assert "logits as before the merge, to the last bit: with the adapter True, bare base True" in done.stdout
    assert (kept / "qa-v2" / "adapter_model.safetensors").is_file()
    assert not (tmp_path / "config" / "config.json").exists(), "the user's own config was touched"


def test_a_folder_with_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(InvalidRequest, match="not empty"):
        demo.run_demo(folder=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_the_examples_of_the_checkout_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert (demo.find_examples() / "qa" / "held-out.jsonl").is_file()
    monkeypatch.setattr(demo.package, "__file__", str(tmp_path / "hub" / "__init__.py"))
    with pytest.raises(FileNotFound, match="Install lorahub-registry again"):
        demo.find_examples()


@pytest.mark.parametrize(
    ("ref", "formed", "broken"),
    [(None, 2, False), (None, 3, True), ("task/qa@v1", 22, False), ("task/qa@v1", 21, True)],
)
def test_a_claim_breaks_at_its_limit(ref: str | None, formed: int, broken: bool) -> None:
    """24 held out: at most 10 % without the adapter is 2, at least 90 % with it is 22."""
    assert bool(demo_model._broken_claim(QA, ref, Score(24, formed, 0))) is broken


def test_the_server_is_fresh_and_gone_afterwards(tmp_path: Path) -> None:
    env = demo_environment(tmp_path)
    with serving(tmp_path, env) as (url, process):
        assert urllib.request.urlopen(url, timeout=30).status == 200
        shell = Shell(tmp_path, {**env, "LORAHUB_ENDPOINT": url})
        assert "admin" in shell.lorahub("whoami")
        assert (tmp_path / "registry" / "registry.sqlite3").is_file()
        with pytest.raises(HubError, match=r"`lorahub show task/none` exited 3: .*task/none"):
            shell.lorahub("show", "task/none")
    assert process.poll() is not None


def test_a_server_that_does_not_start_says_why(tmp_path: Path) -> None:
    (tmp_path / "registry").write_text("in the way")
    with pytest.raises(HubError, match="before it listened"), serving(tmp_path, demo_environment(tmp_path)):
        pass


def test_the_user_s_settings_are_left_out_and_come_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORAHUB_TOKEN", "theirs")
    monkeypatch.setenv("LORAHUB_CACHE", "/theirs")
    env = demo_environment(tmp_path)
    assert "LORAHUB_TOKEN" not in env
    with demo._environment(env):
        assert "LORAHUB_TOKEN" not in os.environ
        assert os.environ["LORAHUB_CACHE"] == str(tmp_path / "cache")
    assert (os.environ["LORAHUB_TOKEN"], os.environ["LORAHUB_CACHE"]) == ("theirs", "/theirs")


def test_progress_takes_a_line_for_every_quarter_where_nobody_watches(capsys: pytest.CaptureFixture[str]) -> None:
    console = DemoConsole()
    for done in range(101):
        console.progress(done, 100, "steps")
    lines = capsys.readouterr().out.splitlines()
    assert [line.rpartition(" ")[0].rpartition(" ")[2] for line in lines] == [
        "1/100", "25/100", "50/100", "75/100", "100/100",
    ]  # fmt: skip
    assert lines[-1].endswith("100/100 steps")


def test_commands_are_shown_as_a_shell_takes_them() -> None:
    assert typed("push", "./a b", "task/qa") == "lorahub push './a b' task/qa"


def test_durations_are_written_as_people_write_them() -> None:
    assert [duration_text(seconds) for seconds in (12.34, 0.0312, 4.2e-6)] == ["12.3 s", "31 ms", "4 µs"]


@pytest.mark.slow
def test_the_real_demo_holds_what_it_claims(tmp_path: Path) -> None:
    env = clean_env(tmp_path) | {"LORAHUB_CACHE": os.environ.get("LORAHUB_DEMO_CACHE", str(tmp_path / "cache"))}
    done = subprocess.run(COMMAND, env=env, capture_output=True, text=True, timeout=2400, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [step for step in [*STEPS, "7. The catalog"] if f"\n{step}" not in done.stdout] == []
    assert re.search(r"refused: requant would keep 0\.\d+ of this adapter", done.stdout)
    assert re.search(r"See the adapters: http://127\.0\.0\.1:\d+", done.stdout)


@pytest.mark.slow
def test_on_a_terminal_it_serves_until_ctrl_c_and_exits_0(tmp_path: Path) -> None:
    env = clean_env(tmp_path) | {"LORAHUB_CACHE": os.environ.get("LORAHUB_DEMO_CACHE", str(tmp_path / "cache"))}
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        COMMAND,
        env=env,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        # A test run in the background ignores SIGINT, and its children would with it.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    os.close(theirs)
    try:
        text = _read_until(ours, "until Ctrl-C.", 2400)
        [url] = re.findall(r"See the adapters: (http://127\.0\.0\.1:\d+)", text)
        assert b"task/qa" in urllib.request.urlopen(url, timeout=60).read()
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
        with pytest.raises(OSError, match="refused"):
            urllib.request.urlopen(url, timeout=10)
    finally:
        process.kill()
        process.wait()
        os.close(ours)


def _read_until(screen: int, wanted: str, timeout: float) -> str:
    text, deadline = "", time.monotonic() + timeout
    while wanted not in text:
        assert time.monotonic() < deadline, text
        if select.select([screen], [], [], 5)[0]:
            text += os.read(screen, 65_536).decode("utf-8", "replace")
    return text
