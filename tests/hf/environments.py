"""Virtual environments with one Hugging Face client each: `python -m tests.hf.environments` makes them all.

The newest client is the project's own environment; the others live in .venvs/hf-<version>.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2] / ".venvs"
OWN = version("huggingface_hub")
OTHERS = ("0.36.0", "1.0.1", "1.13.0")
# typer dropped click, which the command of these releases imports without asking for it.
_BESIDES = {"1.0.1": ("click",), "1.13.0": ("click",)}


def all_versions() -> tuple[str, ...]:
    return (*OTHERS, OWN)


def python_of(client: str) -> Path:
    """Return the interpreter that has this client, whether it is there or not."""
    return Path(sys.executable) if client == OWN else ROOT / f"hf-{client}" / "bin" / "python"


def is_ready(client: str) -> bool:
    python = python_of(client)
    if client == OWN or not python.exists():
        return python.exists()
    imports = "".join(f", {package}" for package in _BESIDES.get(client, ()))
    asked = subprocess.run(
        [str(python), "-c", f"import huggingface_hub, hf_xet{imports}; print(huggingface_hub.__version__)"],
        capture_output=True,
        text=True,
        check=False,
    )
    return asked.stdout.strip() == client


def make(client: str) -> Path:
    """Return the interpreter that has this client; install it first where it is missing."""
    if not is_ready(client):
        venv.create(python_of(client).parents[1], with_pip=True)
        wanted = [f"huggingface_hub=={client}", *_BESIDES.get(client, ())]
        subprocess.run([str(python_of(client)), "-m", "pip", "install", "-q", *wanted], check=True)
    return python_of(client)


if __name__ == "__main__":
    for name in all_versions():
        print(name, make(name))
