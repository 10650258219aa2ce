"""Which files an adapter may have: an allow-list of names, and no pickle under any name.

A pickle runs code when it is opened, so none is ever stored, read, or scanned for how bad it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum
from pathlib import PurePosixPath

from hub.errors import UnsafeFile
from hub.manifest import WEIGHTS_FILE

PICKLED_WEIGHTS_FILE = "adapter_model.bin"
CONVERSION_STEP = (
    "Convert it to safetensors with PEFT, on a machine where you trust the file: "
    "PeftModel.from_pretrained(base, folder).save_pretrained(folder)"
)

_TEXT_SUFFIXES = frozenset({".json", ".jsonl", ".txt", ".md", ".jinja", ".yaml", ".yml", ".toml", ".csv"})
_TOKENIZER_SUFFIXES = frozenset({".model", ".tiktoken", ".vocab", ".bpe", ".merges"})
_IMAGE_SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".gif", ".webp"})
_KEPT_SUFFIXES = _TEXT_SUFFIXES | _TOKENIZER_SUFFIXES | _IMAGE_SUFFIXES | {".safetensors"}
_KEPT_NAMES = re.compile(r"(licen[cs]e|notice|authors|changelog|citation)(\.[a-z]+)?\Z", re.IGNORECASE)
_PICKLE_SUFFIXES = frozenset(
    {".bin", ".pt", ".pt2", ".pth", ".pkl", ".pickle", ".ckpt", ".joblib", ".dill", ".npy", ".npz", ".pyc", ".mar"}
)
_LEFT_OUT_FILES = re.compile(
    r"(training_args\.bin|optimizer(\.\w+)?|scheduler\.pt|scaler\.pt|rng_state(_\d+)?\.pth|events\.out\.tfevents\..*|.*\.log"
    r"|\.git\w*|\.ds_store|thumbs\.db|desktop\.ini|latest|zero_to_fp32\.py)\Z",
    re.IGNORECASE,
)
_LEFT_OUT_FOLDERS = re.compile(
    r"(checkpoint-\d+|last-checkpoint|global_step\d+|runs|wandb|logs|mlruns|__pycache__|\..+)\Z", re.IGNORECASE
)
_MAGICS = (
    (re.compile(rb"\x80[\x02-\x05]"), "a Python pickle"),
    (re.compile(rb"PK\x03\x04|PK\x05\x06"), "a zip archive, as PyTorch writes pickles"),
    (re.compile(rb"\x7fELF|MZ"), "a program"),
)
MAGIC_BYTES = 9
"""How many of a file's first bytes `check_magic` looks at."""


class Verdict(Enum):
    """What happens to a file of some name: it is stored, left out with a reason, or refused."""

    KEEP = "keep"
    LEAVE_OUT = "leave out"
    REFUSE = "refuse"


@dataclass(frozen=True, slots=True)
class FileRule:
    """`reason` is empty for a file that is kept."""

    verdict: Verdict
    reason: str = ""


def rule_for(path: str) -> FileRule:
    """Return what happens to the file at `path`, relative to the adapter's folder, by its name alone."""
    pure = PurePosixPath(path)
    for folder in pure.parts[:-1]:
        if _LEFT_OUT_FOLDERS.match(folder):
            return FileRule(Verdict.LEAVE_OUT, f"{folder}/ is a trainer's or a tool's own folder")
    suffix = pure.suffix.lower()
    if _LEFT_OUT_FILES.match(pure.name):
        return FileRule(Verdict.LEAVE_OUT, "it is left over from training, or a tool's own file")
    if suffix in _PICKLE_SUFFIXES:
        return FileRule(Verdict.REFUSE, f"it is a pickle, which runs code when opened. {CONVERSION_STEP}.")
    if suffix in _KEPT_SUFFIXES or _KEPT_NAMES.match(pure.name):
        return FileRule(Verdict.KEEP)
    return FileRule(Verdict.LEAVE_OUT, "it is not a kind of file that an adapter needs")


def check_name(path: str) -> None:
    """Raise UnsafeFile unless a file of that name may be stored."""
    rule = rule_for(path)
    if rule.verdict is not Verdict.KEEP:
        raise UnsafeFile(f"{path[:120]!r} is never stored: {rule.reason}", path=path[:200])


def check_magic(path: str, first_bytes: bytes) -> None:
    """Raise UnsafeFile if a file begins like a pickle, an archive or a program, whatever its name says."""
    if path.endswith(".safetensors") and first_bytes[8:9] == b"{":
        return  # it begins with its header's length, which may be any two bytes; the header's reader judges it
    for magic, what in _MAGICS:
        if magic.match(first_bytes):
            step = f" {CONVERSION_STEP}." if path.endswith(WEIGHTS_FILE) else " Remove the file."
            raise UnsafeFile(f"{path[:120]!r} is {what}, not what its name says.{step}", path=path[:200])
