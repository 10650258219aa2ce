"""The model card of a trained adapter: front matter that catalogs read, then what it is and how to run it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hub.manifest import BaseIdentity
from hub.training.examples import Example
from hub.training.result import TrainedAdapter

_SHOWN_EXAMPLES = 3
_SHOWN_CHARACTERS = 80


def write_card(
    folder: Path,
    trained: TrainedAdapter,
    facts: Mapping[str, Any],
    config: Any,
    examples: Sequence[Example],
    description: str | None = None,
) -> None:
    """Write `README.md`.  config: PEFT's LoraConfig.  facts: how training went, as `lorahub.json` records it."""
    base = trained.base
    parts = [_front_matter(base), f"# LoRA adapter for {base.id}", *([description] if description else [])]
    parts += [_form(trained, config), "## Training", _training(facts)]
    parts += ["It learned to answer like this:", _examples(examples), "## Use", _use(base)]
    (folder / "README.md").write_text("\n\n".join(parts) + "\n", "utf-8")


def _front_matter(base: BaseIdentity) -> str:
    lines = [f"base_model: {_yaml_text(base.id or 'unknown')}", "library_name: peft", "pipeline_tag: text-generation"]
    return "\n".join(["---", *lines, "tags:", "- lora", "- text-generation", "---"])


def _form(trained: TrainedAdapter, config: Any) -> str:
    base, source = trained.base, trained.trained_from
    targets = ", ".join(f"`{name}`" for name in sorted(config.target_modules))
    form = f"Rank {config.r}, alpha {config.lora_alpha:g}{' (rsLoRA)' if config.use_rslora else ''}, on {targets}."
    further = f" A further round of training of `{source}`." if source else ""
    mark = f" The base's weights are recognised by their fingerprint, `{base.weights[:12]}…`." if base.weights else ""
    return form + further + mark


def _training(facts: Mapping[str, Any]) -> str:
    rows = "\n".join(f"| {name.replace('_', ' ')} | {value} |" for name, value in facts.items() if value is not None)
    return f"| | |\n|---|---|\n{rows}"


def _examples(examples: Sequence[Example]) -> str:
    rows = [f"| {_cell(example.prompt)} | {_cell(example.completion)} |" for example in examples[:_SHOWN_EXAMPLES]]
    return "\n".join(["| prompt | answer |", "|---|---|", *rows])


def _use(base: BaseIdentity) -> str:
    return f"""```python
import hub

model = hub.load("{base.id}", "./this-folder")   # the base: its folder, or its Hugging Face id
```"""


def _cell(text: str) -> str:
    """Return a text as one cell of a table: one line, cut, nothing that Markdown or HTML would act on."""
    line = " ".join(text.split())
    shown = line if len(line) <= _SHOWN_CHARACTERS else line[: _SHOWN_CHARACTERS - 1] + "…"
    return "".join(f"\\{char}" if char in "\\`*_[]<>|!#&" else char for char in shown)


def _yaml_text(text: str) -> str:
    """Return a text as a double-quoted YAML scalar, which JSON's texts are."""
    import json

    return json.dumps(text, ensure_ascii=False)
