"""PEFT, which makes the adapters of the battery and says what is right."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import peft
import torch
import transformers
from bitsandbytes.nn import Linear8bitLt

from tests.battery.bases import BASES, BaseKind
from tests.battery.cases import Case
from tests.runtime.support import never_packs

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class NoOracle(Exception):
    """PEFT itself can't make, load or run this adapter."""


class Workshop:
    """The folders of one run: bases, written once, and adapters."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def base(self, name: str) -> Path:
        folder = self.root / "bases" / name
        return folder if folder.exists() else BASES[name].write(folder)

    def open(self, case: Case) -> Any:
        """Return the bare base in the case's type, as transformers opens it."""
        return open_as(case.type, BASES[case.base], self.base(case.base))

    def adapter(self, case: Case, index: int = 0) -> Path:
        """Return the folder of the case's adapter; of another one of the same settings for another index."""
        folder = self.root / "adapters" / f"{case.seed}-{index}"
        if not folder.exists():
            with asked():
                _write(case, BASES[case.base].open(self.base(case.base)), folder, index)
        return folder


def open_as(type_name: str, kind: BaseKind, folder: Path) -> Any:
    if type_name in DTYPES:
        return kind.open(folder, dtype=DTYPES[type_name])
    skipped = ["score", "classifier", "pre_classifier", "qa_outputs"]
    is_head = kind.model.endswith(("Classification", "QuestionAnswering"))
    options: dict[str, Any] = {"llm_int8_skip_modules": skipped if is_head else None}
    if type_name == "int8":
        settings = transformers.BitsAndBytesConfig(load_in_8bit=True, **options)
    else:
        settings = transformers.BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type=type_name, bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.float32, **options,
        )  # fmt: skip
    return never_packs(kind.open(folder, dtype=torch.float32, quantization_config=settings))


def densified(base: Any) -> Any:
    """Return a base with 8-bit layers in float32, with the weights that their codes and scales stand for."""
    for name, module in list(base.named_modules()):
        if isinstance(module, Linear8bitLt):
            scales = module.weight.SCB if module.weight.SCB is not None else module.state.SCB
            dense = torch.nn.Linear(module.in_features, module.out_features, bias=module.bias is not None)
            dense.weight.data = module.weight.data.float() * scales.float()[:, None] / 127
            dense.bias = module.bias
            base.get_submodule(name.rpartition(".")[0])._modules[name.rpartition(".")[2]] = dense
    return base


def _write(case: Case, base: Any, folder: Path, index: int) -> None:
    """Let PEFT make an adapter with random weights in every tensor that it trains, and save it."""
    torch.manual_seed(1000 * case.seed + index)
    model = peft.get_peft_model(base, peft.LoraConfig(**case.settings))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                _randomize(name, parameter)
    if case.file_type != "float32":
        model.to(DTYPES[case.file_type])
    model.save_pretrained(folder)


def _randomize(name: str, parameter: torch.Tensor) -> None:
    if "magnitude" in name:
        parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    elif "lora_" in name:
        parameter.copy_(torch.randn_like(parameter) * 0.1)
    else:
        parameter.add_(torch.randn_like(parameter) * 0.1)


def wrap(base: Any, folder: Path, name: str = "default") -> Any:
    """Return PEFT's model of an adapter on a base.  Raises NoOracle if PEFT can't, or leaves tensors behind."""
    with asked():
        model = peft.PeftModel(base, peft.PeftConfig.from_pretrained(folder), name)
        result = model.load_adapter(folder, name)
        if result.unexpected_keys or any("lora_" in key for key in result.missing_keys):
            raise NoOracle("PEFT loads it in part")
        return model.eval()


def answer(model: Any, kind: BaseKind, **options: Any) -> torch.Tensor:
    """Return the first floating tensor of the model's output: logits, or hidden states."""
    with torch.no_grad():
        inputs = {name: _as_base(value, model) for name, value in kind.inputs().items()}
        out = model(**inputs, **options)
    found = (value for value in out.values() if isinstance(value, torch.Tensor) and value.is_floating_point())
    return next(found).float()


def _as_base(value: torch.Tensor, model: Any) -> torch.Tensor:
    dtype = next(parameter.dtype for parameter in model.parameters() if parameter.is_floating_point())
    return value.to(dtype) if value.is_floating_point() else value


def line_of(model: Any) -> str:
    """Return what print_trainable_parameters prints of a model that is trained."""
    trainable, total = model.get_nb_trainable_parameters()
    return f"trainable params: {trainable:,d} || all params: {total:,d} || trainable%: {100 * trainable / total:.4f}"


@contextmanager
def asked() -> Iterator[None]:
    """Whatever PEFT raises here is its own answer to the case."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except NoOracle:
            raise
        except Exception as error:
            raise NoOracle(
                f"{type(error).__name__}: {str(error).splitlines()[0][:120] if str(error) else ''}"
            ) from error
