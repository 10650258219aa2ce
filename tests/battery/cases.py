"""Cases of the battery: an architecture, a type, an adapter's config and an operation, drawn from a seed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

from tests.battery.bases import BASES, BaseKind

TYPES = ("float32", "float32", "nf4", "nf4", "bfloat16", "float16", "fp4", "int8")
OPERATIONS = ("load", "switch", "merge", "save", "rows", "sum", "copy", "convert")
FILE_TYPES = ("float32", "float32", "bfloat16", "float16")
SOME = 0.25


@dataclass(frozen=True)
class Case:
    """settings: of LoraConfig.  file_type: of the adapter's tensors.  The seed makes all of it again."""

    seed: int
    base: str
    type: str
    operation: str
    file_type: str
    settings: Mapping[str, Any]

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields that differ from what nearly every adapter has."""
        plain = {"r", "lora_alpha", "target_modules", "task_type", "init_lora_weights"}
        found = [name for name, value in self.settings.items() if name not in plain and value not in (None, False)]
        return tuple(sorted(found)) or ("plain LoRA",)


def draw(seed: int) -> Case:
    """Return the case of a seed, the same for ever."""
    random = Random(seed)
    base = random.choice(sorted(BASES))
    return Case(
        seed=seed,
        base=base,
        type=random.choice(TYPES),
        operation=random.choice(OPERATIONS),
        file_type=random.choice(FILE_TYPES),
        settings=_settings(random, BASES[base]),
    )


def _settings(random: Random, kind: BaseKind) -> dict[str, Any]:
    targets = random.sample(kind.targets, random.randint(1, len(kind.targets)))
    settings: dict[str, Any] = {
        "r": random.randint(1, 9),
        "lora_alpha": random.randint(1, 33),
        "target_modules": targets,
        "task_type": kind.task if random.random() > SOME else None,
        "init_lora_weights": False,
    }
    _add_placement(random, kind, settings)
    _add_mathematics(random, targets, settings)
    _add_whole_parts(random, kind, settings)
    return settings


def _add_placement(random: Random, kind: BaseKind, settings: dict[str, Any]) -> None:
    targets = settings["target_modules"]
    how = random.random()
    if how < 0.1:
        settings["target_modules"] = "all-linear"
    elif how < 0.2:
        settings["target_modules"] = rf".*\.({'|'.join(targets)})"
    elif how < 0.3 and kind.embedding:
        settings["target_modules"] = [*targets, kind.embedding]
    elif how < 0.4 and kind.others:
        settings["target_modules"] = [*targets, *kind.others]
    if random.random() < SOME / 2:
        settings["exclude_modules"] = [random.choice(kind.targets)]
    if random.random() < SOME / 2 and isinstance(settings["target_modules"], list):
        settings["layers_to_transform"] = [random.randint(0, 1)]


def _add_mathematics(random: Random, targets: list[str], settings: dict[str, Any]) -> None:
    if random.random() < SOME:
        settings["use_rslora"] = True
    if random.random() < SOME:
        settings["rank_pattern"] = {random.choice(targets): random.randint(1, 9)}
    if random.random() < SOME:
        settings["alpha_pattern"] = {random.choice(targets): random.randint(1, 33)}
    if random.random() < SOME:
        settings["use_dora"] = True
    elif random.random() < SOME:
        settings["lora_bias"] = True
    if not settings.get("lora_bias"):
        settings["bias"] = random.choice(["none", "none", "none", "lora_only", "all"])
        if settings["bias"] == "none":
            del settings["bias"]


def _add_whole_parts(random: Random, kind: BaseKind, settings: dict[str, Any]) -> None:
    if kind.saved and random.random() < SOME:
        settings["modules_to_save"] = list(kind.saved)
    if kind.embedding and random.random() < SOME:
        settings["trainable_token_indices"] = sorted(random.sample(range(3, 90), random.randint(1, 4)))
    if random.random() < SOME / 2:
        settings["ensure_weight_tying"] = True
    if random.random() < SOME / 4:
        settings["lora_dropout"] = 0.1
