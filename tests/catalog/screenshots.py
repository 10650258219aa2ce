"""Take the pictures of docs/images from a real registry, by a real browser.

    python -m tests.catalog.screenshots catalog                     of a registry made for the picture
    python -m tests.catalog.screenshots --data DIR adapter version  of one that is there already, with task/qa in it:
                                                                    `lorahub demo --keep KEPT` leaves KEPT/registry

The first form fills a fresh registry with adapters of the shapes of a 135M llama.  Their weights come from a seed:
nothing was trained for the picture.  Needs Chromium and playwright.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import math
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from playwright.sync_api import Browser, sync_playwright
from safetensors.numpy import save_file

from hub.base.spec import BaseSpec
from hub.manifest import BaseIdentity
from hub.refs import AdapterName
from hub.registry.service import ANONYMOUS, Registry
from hub.registry.values import Version
from hub.settings import DEFAULT_ENDPOINT, ServerSettings
from tests.catalog import seeds
from tests.catalog.conftest import CHROMIUM_ARGUMENTS, listening
from tests.catalog.seeds import BASE, LLAMA, Publisher
from tests.support.adapters import lora_config

LAYERS = 30
BASE_CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 576,
    "intermediate_size": 1536,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
    "num_hidden_layers": LAYERS,
    "vocab_size": 49152,
    "tie_word_embeddings": True,
    "dtype": "bfloat16",
}
SHAPES = {
    "q_proj": ("self_attn", 576, 576),
    "k_proj": ("self_attn", 576, 192),
    "v_proj": ("self_attn", 576, 192),
    "o_proj": ("self_attn", 576, 576),
    "gate_proj": ("mlp", 576, 1536),
    "up_proj": ("mlp", 576, 1536),
    "down_proj": ("mlp", 1536, 576),
}
ATTENTION = LLAMA[:4]
PICTURES = {
    "catalog": ("/", 1280, 860),
    "adapter": ("/task/qa", 1280, 1000),
    "version": ("/task/qa/versions/2", 1280, 1180),
    "compare": ("/task/qa/compare", 1280, 900),
}


def write_sample(
    folder: Path, *, seed: int, rank: int, alpha: int, targets: Sequence[str], card: str, drift: float
) -> Path:
    """Write an adapter that is strongest in the middle layers.  drift: how far its weights left those of seed 1."""
    folder.mkdir(parents=True)
    first, own = np.random.default_rng(1), np.random.default_rng(seed)
    tensors = {}
    for layer in range(LAYERS):
        strength = 0.012 * (0.35 + math.exp(-(((layer - 19) / 8) ** 2)))
        moved = drift * (0.4 + 0.6 * math.sin(layer / 5) ** 2)
        for place, name in enumerate(targets):
            group, fan_in, fan_out = SHAPES[name]
            parts = {
                side: (1 - moved) * first.standard_normal(shape) + moved * own.standard_normal(shape)
                for side, shape in (("A", (rank, fan_in)), ("B", (fan_out, rank)))
            }
            parts["A"] /= math.sqrt(fan_in)
            parts["B"] *= strength * (1 + 0.5 * math.sin(layer + 2 * place)) * np.linspace(1, 0.15, rank)
            key = f"base_model.model.model.layers.{layer}.{group}.{name}.lora_"
            tensors |= {f"{key}{side}.weight": part.astype(np.float32) for side, part in parts.items()}
    save_file(tensors, folder / "adapter_model.safetensors", metadata={"format": "pt"})
    (folder / "adapter_config.json").write_text(json.dumps(lora_config(rank, alpha, targets, BASE), indent=2), "utf-8")
    (folder / "README.md").write_text(card, "utf-8")
    return folder


class Clock:
    """A registry's time, which the pictures set, so that their charts have a past."""

    def __init__(self, days_ago: float) -> None:
        self.set(days_ago)

    def set(self, days_ago: float) -> None:
        self._moment = datetime.now(UTC) - timedelta(days=days_ago)

    def __call__(self) -> datetime:
        return self._moment


def fill(registry: Registry, clock: Clock, folder: Path) -> None:
    """Publish the adapters of the pictures, the oldest first."""
    made = registry.users.first_start()
    assert made is not None
    actor = registry.tokens.authenticate(made.secret)
    for namespace in ("task", "tools"):
        registry.namespaces.create(actor, namespace, description="Small adapters for everyday tasks")
    publisher = Publisher(registry, actor, folder)
    identity = BaseSpec.from_config(BASE_CONFIG).identity(BASE)
    for index, (name, days_ago, options) in enumerate(_plan()):
        clock.set(days_ago)
        publish = options.pop("publish")
        written = write_sample(folder / f"sample-{index}", seed=index + 1, **options)
        _publish(publisher, written, name, identity, publish, clock, days_ago)
    clock.set(1)
    qa = AdapterName.parse("task/qa")
    registry.aliases.set(actor, qa, "prod", 2, protected=True)
    registry.versions.yank(actor, qa, 1, "Answers in prose when the question is long")
    clock.set(0)


def _publish(
    publisher: Publisher,
    folder: Path,
    name: str,
    base: BaseIdentity,
    publish: dict[str, Any],
    clock: Clock,
    days_ago: float,
) -> None:
    version = publisher.push_folder(folder, name, base=base, **publish)
    _count_downloads(publisher.registry, version, clock, days_ago)


def _count_downloads(registry: Registry, version: Version, clock: Clock, days_ago: float) -> None:
    """Count a few visitors on each day since the version appeared, fewer at weekends."""
    numbers = np.random.default_rng(version.number + sum(str(version.adapter).encode()))
    for back in range(int(days_ago), -1, -1):
        clock.set(back)
        visitors = int(numbers.integers(0, 9)) // (2 if clock().weekday() >= 5 else 1)
        for visitor in range(visitors):
            registry.versions.count_download(ANONYMOUS, version.id, f"visitor-{visitor}")


QA_CARD = (
    seeds.QA_CARD.replace("![Loss by step](loss.png)\n\n", "").partition("| Split")[0]
    + """\
| Data | Examples |
|---|---:|
| trained on | 120 |
| held out | 24 |
"""
)


def _plan() -> list[tuple[str, float, dict[str, Any]]]:
    def sample(
        rank: int, alpha: int, targets: Sequence[str], card: str, drift: float = 1.0, **publish: Any
    ) -> dict[str, Any]:
        return {"rank": rank, "alpha": alpha, "targets": targets, "card": card, "drift": drift, "publish": publish}

    def card(text: str, license: str, task: str, *tags: str) -> str:
        return f"---\nlicense: {license}\npipeline_tag: {task}\ntags: [{', '.join(tags)}]\n---\n{text}\n"

    summary = card("Summarizes an article in three sentences.", "apache-2.0", "summarization", "news")
    labels = card("Labels a sentence positive, negative or neutral.", "mit", "text-classification", "labels")
    sql = card("Turns a question about a table into one SQL query.", "apache-2.0", "text-generation", "sql", "code")
    names = card("Marks names, places and dates in a text.", "mit", "token-classification", "entities")
    first, second = (
        {"message": "First round"},
        {"message": "Second round, learning rate halved", "trained_from": ["task/qa@v1"]},
    )
    third = {"message": "Longer answers in the data", "trained_from": ["task/qa@v2"]}
    return [
        ("task/qa", 44, sample(8, 16, ATTENTION, QA_CARD, 0.0, **first)),
        ("tools/sql", 40, sample(32, 64, LLAMA, sql)),
        ("task/summarize", 33, sample(16, 32, LLAMA, summary)),
        ("task/qa", 30, sample(8, 16, ATTENTION, QA_CARD + "\nTrained for two more epochs.\n", 0.25, **second)),
        ("tools/names", 12, sample(4, 8, ("q_proj", "v_proj"), names)),
        ("task/sentiment", 9, sample(16, 32, ("q_proj", "v_proj"), labels)),
        ("task/qa", 2, sample(8, 16, ATTENTION, QA_CARD + "\nTrained with longer answers.\n", 0.45, **third)),
    ]


def shoot(browser: Browser, url: str, names: Sequence[str], target: Path) -> None:
    """Write each named picture in light and dark."""
    for name, (address, width, height) in PICTURES.items():
        for scheme, suffix in (("light", ""), ("dark", "-dark")):
            if name in names:
                page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
                page.goto(url + address)
                page.evaluate("document.fonts.ready")
                page.screenshot(path=target / f"{name}{suffix}.png")
                page.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*PICTURES, []], help="which pictures; all by default")
    parser.add_argument("--data", type=Path, help="a registry's data folder, instead of one made for the pictures")
    parser.add_argument("--target", type=Path, default=Path("docs/images"))
    arguments = parser.parse_args()
    found = shutil.which("chromium") or shutil.which("chromium-browser")
    if found is None:
        parser.error("no Chromium on this machine: apt-get install chromium")
    arguments.target.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, registry_to_show(arguments.data) as url:
        browser = playwright.chromium.launch(executable_path=found, args=CHROMIUM_ARGUMENTS)
        shoot(browser, url, arguments.names or list(PICTURES), arguments.target)
        browser.close()


@contextmanager
def registry_to_show(data: Path | None) -> Iterator[str]:
    """Serve the registry in `data`, or one that is made now; yield its address."""
    with tempfile.TemporaryDirectory() as scratch:
        settings = ServerSettings.from_env({}, data=data or Path(scratch) / "data")
        registry = Registry.open(settings)
        if data is None:
            clock = Clock(60)
            registry = Registry(dataclasses.replace(registry.context, now=clock))
            fill(registry, clock, Path(scratch) / "adapters")
        with listening(registry, settings, public_url=DEFAULT_ENDPOINT) as url:
            yield url
        registry.close()


if __name__ == "__main__":
    main()
