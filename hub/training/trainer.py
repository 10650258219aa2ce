"""Train a LoRA adapter with PEFT: completions only, in the base's own chat template, from a seed.

    trained = hub.train("./base-model", "examples/qa/train.jsonl", "./qa-v1")
    again   = hub.train("./base-model", "examples/qa/train-more.jsonl", "./qa-v2", continue_from="task/qa@v1")

The folder that comes out is PEFT's, with a model card and `lorahub.json`, which tells a push what the base was.
"""

from __future__ import annotations

import math
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from hub.adapter.provenance import Provenance
from hub.errors import InvalidRequest, TrainingDiverged
from hub.formats.atomic_files import check_new_folder, new_folder
from hub.refs import AdapterRef
from hub.training.base import TrainingBase, choose_device, load_model, load_tokenizer
from hub.training.card import write_card
from hub.training.encoding import Row, batches, encode
from hub.training.examples import Data, Example, read_examples
from hub.training.loss import completion_loss
from hub.training.result import TrainedAdapter
from hub.training.start import Start, find_start
from hub.training.targets import DEFAULT_TARGETS, resolve_targets

if TYPE_CHECKING:
    from peft import PeftModel

_WARMUP_SHARE = 0.1
_LARGEST_GRADIENT = 1.0


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train.  The adapter's form (rank … use_rslora) is only asked for when none is continued."""

    rank: int = 8
    alpha: float = 16
    target_modules: tuple[str, ...] = DEFAULT_TARGETS
    dropout: float = 0.0
    use_rslora: bool = False
    steps: int | None = None
    epochs: float = 1.0
    batch_size: int = 8
    learning_rate: float = 2e-3
    max_length: int = 512
    quantize: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "alpha", "epochs", "batch_size", "learning_rate", "max_length"):
            if not getattr(self, name) > 0:
                raise InvalidRequest(f"{name} is {getattr(self, name)}; it must be more than 0.")
        if self.quantize not in {None, "nf4"}:
            raise InvalidRequest(f"quantize is {self.quantize!r}; training takes 'nf4' or None.")
        if self.steps is not None and self.steps < 1:
            raise InvalidRequest(f"steps is {self.steps}; it must be 1 at least.")

    def count_steps(self, examples: int) -> int:
        """Return how many steps `examples` take: each is one batch."""
        return self.steps or math.ceil(examples * self.epochs / self.batch_size)


class TrainSettings(TypedDict, total=False):
    """The recipe's fields, and what the adapter's base and card are called."""

    rank: int
    alpha: float
    target_modules: Sequence[str]
    dropout: float
    use_rslora: bool
    steps: int | None
    epochs: float
    batch_size: int
    learning_rate: float
    max_length: int
    quantize: str | None
    seed: int
    base_id: str | None
    description: str | None
    device: str


_BESIDE_THE_RECIPE = {"base_id", "description", "device"}


@dataclass(frozen=True, slots=True)
class TrainingStep:
    """Where training is.  loss: mean over the completions' tokens, in nats.  seconds: since the first step began."""

    step: int
    steps: int
    loss: float
    seconds: float


Progress = Callable[[TrainingStep], None]


def train(
    base: str | os.PathLike[str],
    data: Data,
    output: str | os.PathLike[str],
    *,
    continue_from: str | os.PathLike[str] | AdapterRef | None = None,
    registry: str | None = None,
    progress: Progress | None = None,
    **settings: Unpack[TrainSettings],
) -> TrainedAdapter:
    """Train an adapter for `base` on `data` and write it to the new folder `output`.

    base: a folder or a Hugging Face id.  data: JSON Lines of {"prompt", "completion"} or {"messages"}; a file, several,
        or the objects themselves.  Only completions are learned.
    continue_from: a version or a PEFT folder to go on from; the new adapter has its form and records where it is from.
    base_id: what to call a base that is a folder; the folder's name by default, never its path.
    description: what the adapter does, in a sentence: the first of its card.
    device: auto, cpu, cuda, cuda:1, …
    settings: rank 8, alpha 16, target_modules, dropout 0, use_rslora; epochs 1 or steps; batch_size 8, learning_rate
        2e-3 (linear warm-up and decay), max_length 512 tokens, quantize None or "nf4", seed 0.
    The same seed on the same machine gives the same adapter.  `output` appears whole or not at all.
    Raises InvalidRequest for bad data or settings, Incompatible when continue_from is of another base,
    TrainingDiverged when the loss is no number.
    """
    recipe, folder = _recipe(settings, continued=continue_from is not None), Path(output).expanduser()
    check_new_folder(folder)
    examples = read_examples(data)
    origin = TrainingBase.open(base, settings.get("base_id"))
    start = find_start(continue_from, origin, registry) if continue_from is not None else None
    begun = time.monotonic()
    tokenizer = load_tokenizer(origin)
    rows = [encode(tokenizer, example, recipe.max_length) for example in examples]
    adapter = _attach(load_model(origin, choose_device(settings.get("device", "auto")), recipe.quantize), recipe, start)
    losses = _fit(adapter, rows, recipe, progress or (lambda step: None))
    trained = TrainedAdapter(
        path=folder,
        base=origin.identity,
        trained_from=start.ref if start else None,
        examples=len(examples),
        losses=tuple(losses),
        seconds=time.monotonic() - begun,
    )
    _write_aside(adapter, trained, recipe, examples, settings.get("description"))
    return trained


def _recipe(settings: TrainSettings, continued: bool) -> Recipe:
    given: dict[str, Any] = {name: value for name, value in settings.items() if name not in _BESIDE_THE_RECIPE}
    unknown = set(given) - set(Recipe.__dataclass_fields__)
    if unknown:
        raise InvalidRequest(
            f"Training has no setting {', '.join(sorted(unknown))}; it has {', '.join(Recipe.__dataclass_fields__)}."
        )
    form = {"rank", "alpha", "target_modules", "dropout", "use_rslora"} & set(given)
    if continued and form:
        raise InvalidRequest(
            f"{', '.join(sorted(form))} can't be set with continue_from: the adapter keeps the form that it has."
        )
    if "target_modules" in given:
        given = given | {"target_modules": tuple(given["target_modules"])}
    return Recipe(**given)


def _attach(model: Any, recipe: Recipe, start: Start | None) -> PeftModel:
    """Return the model with an adapter to train: a new one, or the one to go on from."""
    import torch
    from peft import LoraConfig, PeftModel, get_peft_model

    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # transformers deprecates a property that PEFT reads
        torch.manual_seed(recipe.seed)
        if start is not None:
            return PeftModel.from_pretrained(model, str(start.folder), is_trainable=True)
        config = LoraConfig(
            r=recipe.rank,
            lora_alpha=recipe.alpha,
            target_modules=list(resolve_targets(recipe.target_modules, _adaptable(model))),
            lora_dropout=recipe.dropout,
            use_rslora=recipe.use_rslora,
            task_type="CAUSAL_LM",
        )
        try:
            return get_peft_model(model, config)
        except ValueError as error:
            raise InvalidRequest(f"PEFT refuses these settings: {error}") from error


def _adaptable(model: Any) -> list[str]:
    """Return the names of the modules that PEFT can adapt."""
    from torch import nn

    kinds = ("Conv1D",)
    return [
        name
        for name, module in model.named_modules()
        if isinstance(module, (nn.Linear, nn.Embedding)) or type(module).__name__ in kinds
    ]


def _fit(model: Any, rows: Sequence[Row], recipe: Recipe, progress: Progress) -> list[float]:
    """Run the optimizer; return each step's loss."""
    import torch

    steps = recipe.count_steps(len(rows))
    weights = [weight for weight in model.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=recipe.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate_share(step, steps))
    losses: list[float] = []
    begun = time.monotonic()
    model.train()
    with torch.random.fork_rng():
        torch.manual_seed(recipe.seed)  # dropout
        for batch in islice(batches(rows, recipe.batch_size, recipe.seed), steps):
            loss = completion_loss(model, batch)
            losses.append(_finite(loss.item(), len(losses) + 1, recipe))
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, _LARGEST_GRADIENT)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            progress(TrainingStep(len(losses), steps, losses[-1], time.monotonic() - begun))
    model.eval()
    return losses


def _rate_share(step: int, steps: int) -> float:
    """Return the share of the learning rate at a step: up during the first tenth, then down to 0, both linearly."""
    warmup = max(1, round(steps * _WARMUP_SHARE))
    return min((step + 1) / warmup, (steps - step) / max(steps - warmup, 1), 1.0)


def _finite(loss: float, step: int, recipe: Recipe) -> float:
    if not math.isfinite(loss):
        raise TrainingDiverged(
            f"The loss is {loss} at step {step}: training diverged, and nothing was written. "
            f"Try a lower learning_rate than {recipe.learning_rate:g}.",
            step=step,
        )
    return loss


def _write_aside(
    model: Any, trained: TrainedAdapter, recipe: Recipe, examples: Sequence[Example], description: str | None
) -> None:
    """Write the folder next to its place and move it there in one step: nobody sees half an adapter."""
    with new_folder(trained.path) as aside:
        facts = _write(model, trained, recipe, aside)
        write_card(aside, trained, facts, model.peft_config["default"], examples, description)


def _write(model: Any, trained: TrainedAdapter, recipe: Recipe, folder: Path) -> dict[str, Any]:
    """Write PEFT's files and `lorahub.json`; return what the latter says of the training."""
    # Neither the machine's paths nor the loader's names belong into a file that is shared.
    config = model.peft_config["default"]
    config.base_model_name_or_path = trained.base.id
    config.revision = trained.base.revision
    # The base's embeddings are never changed here; "auto" would look the base up on the Hub to find that out.
    model.save_pretrained(folder, save_embedding_layers=False)
    facts = {
        "steps": len(trained.losses),
        "examples": trained.examples,
        "batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "quantize": recipe.quantize,
        "seed": recipe.seed,
        "first_loss": round(trained.losses[0], 4),
        "last_loss": round(trained.losses[-1], 4),
    }
    sources = (trained.trained_from,) if trained.trained_from else ()
    Provenance(trained.base, sources, facts).write(folder)
    return facts
