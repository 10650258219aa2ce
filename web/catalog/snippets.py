"""Copy-paste snippets for the version on screen.

A base's id comes from a file that anybody may have pushed, and a snippet is run as it stands: an id that isn't plainly
an id becomes a placeholder, so that no snippet can carry a command of its own.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from hub.manifest import WEIGHTS_FILE, FileEntry
from hub.refs import AdapterRef
from hub.settings import DEFAULT_ENDPOINT

VLLM_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM's `--max-lora-rank` accepts from 8 up.  Source: vllm/config/lora.py, MaxLoRARanks."""

_PLAIN_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?\Z", re.ASCII)
_PLACEHOLDER = "./base-model"


@dataclass(frozen=True, slots=True)
class Snippet:
    """One way to use a version.  key: for ids.  language: for the colours.  note: one sentence below it, or empty."""

    key: str
    title: str
    language: str
    code: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class SnippetSource:
    """What the snippets need to know of a version."""

    ref: AdapterRef
    endpoint: str
    base_id: str | None
    rank: int
    method: str
    private: bool
    weights: FileEntry | None
    has_modules_to_save: bool = False


def snippets(source: SnippetSource) -> tuple[Snippet, ...]:
    """Return the snippets for one version, the shortest way first."""
    return (_cli(source), _python(source), _peft(source), _vllm(source), _curl(source))


def base_argument(base_id: str | None) -> str:
    """Return the base's id if it is plainly one, else a placeholder that is a local path."""
    return (
        base_id if base_id and len(base_id) <= 96 and _PLAIN_ID.match(base_id) and ".." not in base_id else _PLACEHOLDER
    )


def vllm_rank(rank: int) -> int | None:
    """Return the smallest `--max-lora-rank` of vLLM that an adapter of this effective rank fits; None if none does."""
    return next((limit for limit in VLLM_RANKS if rank <= limit), None)


def _cli(source: SnippetSource) -> Snippet:
    lines = [] if source.endpoint == DEFAULT_ENDPOINT else [f"export LORAHUB_ENDPOINT={source.endpoint}"]
    if source.private:
        lines.append("lorahub login")
    lines.append(f"lorahub check {base_argument(source.base_id)} {source.ref}")
    lines.append(f"lorahub pull {source.ref}")
    return Snippet("cli", "CLI", "bash", "\n".join(lines), "Resumes where it stopped; every byte is verified.")


def _python(source: SnippetSource) -> Snippet:
    registry = "" if source.endpoint == DEFAULT_ENDPOINT else f', registry="{source.endpoint}"'
    code = f"""import hub

model = hub.load("{base_argument(source.base_id)}", "{source.ref}"{registry})

inputs = model.tokenizer("Hello", return_tensors="pt")
output = model.generate(**inputs, max_new_tokens=64)
print(model.tokenizer.decode(output[0], skip_special_tokens=True))"""
    return Snippet(
        "python", "Python", "python", code, "Loads the base in 4-bit and refuses an adapter that does not fit."
    )


def _peft(source: SnippetSource) -> Snippet:
    token = '\nos.environ["HF_TOKEN"] = os.environ["LORAHUB_TOKEN"]' if source.private else ""
    code = f"""import os

os.environ["HF_ENDPOINT"] = "{source.endpoint}"  # before the next imports{token}

from peft import PeftModel
from transformers import AutoModelForCausalLM

base = AutoModelForCausalLM.from_pretrained("{_PLACEHOLDER}")
model = PeftModel.from_pretrained(base, "{source.ref.adapter}", revision="{source.ref.selector}")"""
    return Snippet("peft", "PEFT", "python", code, f"{_PLACEHOLDER} is a local folder of the base model.")


def _vllm(source: SnippetSource) -> Snippet:
    limit = vllm_rank(source.rank)
    unfit = _vllm_refusal(source, limit)
    if unfit:
        return Snippet(
            "vllm", "vLLM", "text", f"# {unfit}", "Merge it first: lorahub merge saves an ordinary model folder."
        )
    code = f"""vllm serve {base_argument(source.base_id)} \\
  --enable-lora --max-lora-rank {limit} \\
  --lora-modules {source.ref.adapter.name}="$(lorahub pull {source.ref})\""""
    return Snippet("vllm", "vLLM", "bash", code, f"Effective rank {source.rank}, rank patterns counted.")


def _vllm_refusal(source: SnippetSource, limit: int | None) -> str:
    if "dora" in source.method.lower():
        return "vLLM does not serve DoRA adapters."
    if source.has_modules_to_save:
        return "vLLM does not serve adapters that carry whole modules (modules_to_save)."
    return f"Rank {source.rank} is over vLLM's limit of {VLLM_RANKS[-1]}." if limit is None else ""


def _curl(source: SnippetSource) -> Snippet:
    address = (
        f"{source.endpoint}/api/v1/adapters/{source.ref.adapter}/versions/{source.ref.selector}/files/{WEIGHTS_FILE}"
    )
    header = ' -H "Authorization: Bearer $LORAHUB_TOKEN"' if source.private else ""
    lines = [f"curl -fL{header} -o {WEIGHTS_FILE} \\", f"  {address}"]
    if source.weights is not None:
        lines.append(f'echo "{source.weights.sha256}  {WEIGHTS_FILE}" | sha256sum -c')
    return Snippet("curl", "curl", "bash", "\n".join(lines))
