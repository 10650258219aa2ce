"""Measure the runtime on a CUDA device, all within about ten minutes, and write a table of docs/benchmarks.md.

    python -m benchmarks.gpu [--dry-run] [--no-write]

--dry-run runs every line on the CPU with a tiny model: it shows that the program works, and measures nothing.
vLLM is not measured here: run its own serving benchmark with and without an adapter, and compare the overheads.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TQDM_DISABLE", "1")

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, LlamaConfig, LlamaForCausalLM

import hub
from benchmarks import machine
from benchmarks.document import put
from benchmarks.turns import Row, by_turns, speed, table
from hub.runtime import Model

RANK = 16
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@dataclass(frozen=True)
class Plan:
    """How much is measured: sizes of the random Llama, rows and adapters of decoding, repetitions."""

    device: str
    sizes: dict[str, int]
    rows: tuple[int, ...] = (1, 8, 64)
    adapters: tuple[int, ...] = (1, 4, 16)
    repetitions: int = 15

    @property
    def dtype(self) -> torch.dtype:
        return torch.bfloat16


ON_CUDA = Plan(
    "cuda",
    {
        "vocab_size": 32_000,
        "hidden_size": 2_048,
        "intermediate_size": 5_632,
        "num_hidden_layers": 22,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
)
DRY = Plan(
    "cpu",
    {
        "vocab_size": 128,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
    repetitions=1,
)


@dataclass(frozen=True)
class Bench:
    plan: Plan
    base: Path
    folders: list[Path]

    def open_base(self) -> Any:
        settings = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=self.plan.dtype,
        )
        return AutoModelForCausalLM.from_pretrained(
            self.base, dtype=self.plan.dtype, quantization_config=settings, device_map={"": self.plan.device}
        ).eval()

    def open_peft(self) -> PeftModel:
        model = PeftModel.from_pretrained(self.open_base(), self.folders[0], adapter_name="a0").eval()
        for number, folder in enumerate(self.folders[1:], start=1):
            model.load_adapter(folder, adapter_name=f"a{number}")
        return model

    def open_ours(self) -> Model:
        slots = len(self.folders)
        return hub.load(self.base, *self.folders, device=self.plan.device, slots=slots, compute="bfloat16")

    def tokens(self, rows: int, length: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(rows)
        return torch.randint(5, self.plan.sizes["vocab_size"], (rows, length), generator=generator).to(self.plan.device)

    def wait(self) -> None:
        if self.plan.device == "cuda":
            torch.cuda.synchronize()

    def allocated(self) -> int:
        return torch.cuda.memory_allocated() if self.plan.device == "cuda" else 0


@contextmanager
def prepared(plan: Plan) -> Iterator[Bench]:
    with tempfile.TemporaryDirectory(prefix="lorahub-gpu-") as folder:
        root = Path(folder)
        os.environ["LORAHUB_CACHE"] = str(root / "cache")
        torch.manual_seed(0)
        LlamaForCausalLM(LlamaConfig(**plan.sizes)).to(torch.bfloat16).save_pretrained(root / "base")
        yield Bench(plan, root / "base", [_adapter(root, number) for number in range(max(plan.adapters))])


def _adapter(root: Path, number: int) -> Path:
    """Let PEFT write an adapter with weights of its own."""
    torch.manual_seed(number)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(AutoModelForCausalLM.from_pretrained(root / "base", dtype=torch.bfloat16), config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(std=0.01)
    model.save_pretrained(root / f"a{number}")
    return root / f"a{number}"


# --- the measures


def exactness(bench: Bench) -> list[Row]:
    """How far our logits are from PEFT's, in units of PEFT's own distance from the same adapter in float32."""
    tokens = bench.tokens(2, 16)
    with torch.no_grad():
        theirs = bench.open_peft()(input_ids=tokens).logits.float()
        ours = bench.open_ours()(input_ids=tokens).logits.float()
    distance = ((ours - theirs).norm() / theirs.norm()).item()
    return [Row("logits against PEFT's, bfloat16", f"{distance:.4f} apart", {}, "at most 0.02", distance <= 0.02)]


def loading(bench: Bench) -> list[Row]:
    peft, ours = bench.open_peft(), bench.open_ours()
    first, second = str(bench.folders[0]), str(bench.folders[min(1, len(bench.folders) - 1)])

    def reload_theirs() -> None:
        peft.load_adapter(first, adapter_name="again")
        peft.delete_adapter("again")
        bench.wait()

    def reload_ours() -> None:
        ours.use(second)
        ours.remove(first)
        ours.add(first)
        bench.wait()

    loads = by_turns({"PEFT load_adapter": reload_theirs, "lorahub add": reload_ours}, bench.plan.repetitions)
    names = iter(range(10**9))
    switches = by_turns(
        {
            "PEFT set_adapter": lambda: peft.set_adapter(f"a{next(names) % len(bench.folders)}", inference_mode=True),
            "lorahub use": lambda: ours.use(str(bench.folders[next(names) % len(bench.folders)])),
        },
        bench.plan.repetitions,
    )
    return [
        speed("load an adapter", loads, "PEFT load_adapter", "lorahub add"),
        speed("switch", switches, "PEFT set_adapter", "lorahub use", 1000 if bench.plan.device == "cuda" else None),
    ]


def decoding(bench: Bench) -> list[Row]:
    bare, peft, ours = bench.open_base(), bench.open_peft(), bench.open_ours()
    rows = []
    for count in bench.plan.rows:
        for adapters in bench.plan.adapters:
            if adapters <= count:
                rows += _decode(bench, bare, peft, ours, count, adapters)
    return rows


def _decode(bench: Bench, bare: Any, peft: Any, ours: Model, rows: int, adapters: int) -> list[Row]:
    tokens = bench.tokens(rows, 16)
    options = {"max_new_tokens": 8, "min_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    theirs = [f"a{row % adapters}" for row in range(rows)]
    mine = [str(bench.folders[row % adapters]) for row in range(rows)]

    def generate(model: Any, **more: Any) -> Callable[[], None]:
        def run() -> None:
            model.generate(input_ids=tokens, **options, **more)
            bench.wait()

        return run

    jobs = {
        "the bare base": generate(bare),
        "PEFT adapter_names": generate(peft, adapter_names=theirs),
        "lorahub": generate(ours, adapters=mine),
    }
    times = by_turns(jobs, bench.plan.repetitions)
    measure = f"decode, {rows} rows, {adapters} adapters"
    return [speed(measure, times, "PEFT adapter_names", "lorahub"), speed(measure, times, "the bare base", "lorahub")]


def merging(bench: Bench) -> list[Row]:
    peft, ours = bench.open_peft(), bench.open_ours()

    def theirs() -> None:
        peft.merge_adapter()
        peft.unmerge_adapter()
        bench.wait()

    def mine() -> None:
        ours.merge("dequant")
        ours.unmerge()
        bench.wait()

    times = by_turns({"PEFT": theirs, "lorahub": mine}, min(3, bench.plan.repetitions))
    return [speed("merge and unmerge", times, "PEFT", "lorahub")]


def memory(bench: Bench) -> list[Row]:
    gc.collect()
    before = bench.allocated()
    model = bench.open_ours()
    bench.wait()
    held = (bench.allocated() - before) / 2**20
    return [Row("memory of the base and its adapters", f"{held:,.0f} MB", {"parameters": _held(model)}, unit="MB")]


def _held(model: Model) -> float:
    return sum(value.numel() * value.element_size() for value in model.base.parameters()) / 2**20


MEASURES = (exactness, loading, decoding, merging, memory)


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the runtime on a CUDA device.")
    parser.add_argument("--dry-run", action="store_true", help="run every line on the CPU, with a tiny model")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md as it is")
    options = parser.parse_args()
    if not options.dry_run and not torch.cuda.is_available():
        print("There is no CUDA device here. Try the program itself with --dry-run.")
        return 1
    plan = DRY if options.dry_run else ON_CUDA
    rows: list[Row] = []
    with prepared(plan) as bench:
        for measure in MEASURES:
            print(f"measuring {measure.__name__} …", flush=True)
            rows += measure(bench)
    name = "the CPU (dry run: no measurement)" if options.dry_run else torch.cuda.get_device_name()
    said = machine.describe(torch.get_num_threads(), "torch", "transformers", "bitsandbytes", "peft")
    text = f"{name}; {said}\n\n{table(rows)}"
    print(text)
    if not options.dry_run and not options.no_write:
        put("runtime-gpu", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
