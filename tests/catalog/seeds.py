"""A registry with something of everything that a page shows: aliases, a yank, DoRA, private things, hostile cards."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hub.adapter.files import build_manifest
from hub.adapter.publication import Publication
from hub.manifest import BaseIdentity
from hub.refs import AdapterName
from hub.registry.service import Actor, Registry
from hub.registry.values import Version
from tests.catalog.payloads import corpus
from tests.support.adapters import write_adapter

BASE = "HuggingFaceTB/SmolLM2-135M-Instruct"
LLAMA = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
SMALL_ADAPTERS = 24
OFTEN = 22
ODD = '"><img src=x onerror=window.pwned=1> {{7*7}}'
ODD_BASE = '../we"ird<b>/x?y#z'
PIXEL = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001a5f6"
    "45400000000049454e44ae426082"
)
"""A PNG of one transparent pixel."""

QA_CARD = """---
license: apache-2.0
pipeline_tag: text-generation
tags: [json, question-answering]
---
# Question answering as JSON

Answers one question with one line of JSON: `{"answer": "..."}`, and nothing else.

![Loss by step](loss.png)

## Use

```python
import hub

model = hub.load("HuggingFaceTB/SmolLM2-135M-Instruct", "task/qa@v2")  # a 4-bit base
```

| Split | Right format | Questions |
|---|---:|---:|
| held out | 0.96 | 24 |
| trained on | 0.99 | 96 |

See [how it was trained](notes.md) or the [paper](https://example.com/paper).
"""


@dataclass(frozen=True)
class Seeded:
    """What the tests need to know of the registry: its admin's token, and the hostile cards' versions."""

    token: str
    hostile: Mapping[str, int]


class Publisher:
    """Pushes folders as the admin, straight into the registry."""

    def __init__(self, registry: Registry, actor: Actor, folder: Path) -> None:
        self.registry, self.actor, self.folder = registry, actor, folder
        self._count = 0

    def push(
        self,
        name: str,
        *,
        base: BaseIdentity | None = None,
        files: Mapping[str, bytes] | None = None,
        publish: Mapping[str, Any] | None = None,
        **adapter: Any,
    ) -> Version:
        """Write a PEFT folder (see write_adapter), send its blobs, publish it."""
        self._count += 1
        folder = write_adapter(self.folder / str(self._count), **{"seed": self._count, "base": BASE, **adapter})
        for path, content in (files or {}).items():
            (folder / path).write_bytes(content)
        return self.push_folder(folder, name, base=base, **(publish or {}))

    def push_folder(self, folder: Path, name: str, *, base: BaseIdentity | None = None, **publish: Any) -> Version:
        adapter = AdapterName.parse(name)
        manifest = build_manifest(folder, base)
        for entry in manifest.files:
            with (folder / entry.path).open("rb") as stream:
                self.registry.blobs.put(self.actor, adapter, stream, entry.sha256, entry.size)
        return self.registry.versions.publish(self.actor, adapter, manifest, Publication.parse(**publish)).version


def seed(registry: Registry, folder: Path) -> Seeded:
    """Fill an empty registry."""
    made = registry.users.first_start()
    assert made is not None
    actor = registry.tokens.authenticate(made.secret)
    for namespace in ("task", "team", "many", "hostile"):
        registry.namespaces.create(actor, namespace)
    registry.namespaces.create(actor, "vault", private=True)
    publisher = Publisher(registry, actor, folder)
    _seed_tasks(publisher)
    _seed_variety(publisher)
    for index in range(SMALL_ADAPTERS):
        publisher.push(f"many/small-{index:02}", readme=f"Adapter number {index} of many.", publish={"task": "filler"})
    hostile = {
        name: publisher.push("hostile/cards", readme=card, rank=1, layers=1, publish={"message": name}).number
        for name, card in corpus().items()
    }
    return Seeded(made.secret, hostile)


def _seed_tasks(publisher: Publisher) -> None:
    registry, actor, qa = publisher.registry, publisher.actor, AdapterName.parse("task/qa")
    recorded = BaseIdentity(id=BASE)
    parts = {"loss.png": PIXEL, "notes.md": b"# Notes\n\nTrained for two epochs.\n"}
    for message, alpha in (("First round", 8), ("Second round, learning rate halved", 16), ("Third round", 16)):
        card = QA_CARD.replace("0.96", f"0.9{alpha % 7}")
        options = {"message": message, "trained_from": [] if message == "First round" else ["task/qa@v1"]}
        publisher.push("task/qa", base=recorded, readme=card, files=parts, rank=4, alpha=alpha, publish=options)
    registry.aliases.set(actor, qa, "prod", 3)
    registry.aliases.set(actor, qa, "prod", 2, protected=True)
    registry.versions.yank(actor, qa, 1, "Answers in prose when the question is long")
    registry.metrics.set(actor, qa, 2, "exact_match", 0.958, "held-out")
    version = registry.versions.resolve(actor, qa.at(2))
    for day in range(5):
        registry.versions.count_download(actor, version.id, f"visitor-{day}")
    card = "---\nlicense: mit\ntags: [labels]\n---\nLabels a sentence positive, negative or neutral."
    publisher.push("task/sentiment", rank=16, readme=card, publish={"task": "text-classification"})


def _seed_variety(publisher: Publisher) -> None:
    publisher.push(
        "team/summarize",
        rank=48,
        targets=LLAMA,
        readme="Summarizes an article in three sentences.",
        config={"use_rslora": True},
        publish={"task": "summarization"},
    )
    publisher.push("team/no-card", base=BaseIdentity(id="org/other-base"), publish={"message": "<b>bold</b> & plain"})
    publisher.push(
        "team/odd",
        base=BaseIdentity(id=ODD_BASE),
        readme=f"---\nlicense: '{ODD}'\ntags: ['{ODD}', 'a/b?c=d&e']\ndescription: '{ODD}'\n---\n{ODD}",
        publish={"message": ODD, "task": ODD, "trained_from": ["team/no-card@v1"]},
    )
    for index in range(OFTEN):
        publisher.push("many/often", layers=1, rank=1, publish={"message": f"Push number {index + 1}"})
    publisher.push("vault/secret", readme="Nobody outside may read this.")
