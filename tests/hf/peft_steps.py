"""What PEFT and transformers do with an adapter repository, each step with real, tiny, random models.

python peft_steps.py facts.json results.json          with HF_ENDPOINT and HF_TOKEN set, and nothing else
"""

from __future__ import annotations

import io
import json
import logging
import os
import sys
import time
import traceback
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from huggingface_hub import HfApi
from huggingface_hub.utils import HfHubHTTPError
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, Trainer, TrainingArguments

torch.set_num_threads(1)
HIDDEN, LAYERS, VOCABULARY = 32, 2, 64


class Facts:
    """base: a folder with a tiny random model.  qa: an adapter with v1 and v2, whose local folders are one and two."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.endpoint = os.environ["HF_ENDPOINT"]
        self.qa: str = facts["qa"]
        self.namespace: str = facts["namespace"]
        self.tmp = Path(facts["tmp"])
        self.folders = {name: Path(path) for name, path in facts["folders"].items()}
        self.base = self.tmp / "base"
        self.model().save_pretrained(self.base)

    def model(self) -> Any:
        torch.manual_seed(0)
        sizes = {"hidden_size": HIDDEN, "intermediate_size": 2 * HIDDEN, "num_attention_heads": 4}
        return LlamaForCausalLM(LlamaConfig(num_hidden_layers=LAYERS, vocab_size=VOCABULARY, **sizes))

    def logits(self, model: Any) -> torch.Tensor:
        """Return what a model says, as (1, 8, VOCABULARY)."""
        with torch.no_grad():
            return model.eval()(torch.arange(8)[None]).logits

    def seen(self) -> list[str]:
        """Return the requests that the proxy in front of the server has seen."""
        with urllib.request.urlopen(f"{self.endpoint}/seen", timeout=60) as answer:
            return answer.read().decode().splitlines()

    def native(self, path: str) -> Any:
        request = urllib.request.Request(
            f"{self.endpoint}/api/v1{path}", headers={"Authorization": f"Bearer {os.environ['HF_TOKEN']}"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.loads(answer.read())


def same(left: torch.Tensor, right: torch.Tensor) -> None:
    assert torch.equal(left, right), float((left - right).abs().max())


def load_by_tag(facts: Facts) -> None:
    """PeftModel.from_pretrained(base, "ns/qa", revision="v2")"""
    remote = facts.logits(PeftModel.from_pretrained(facts.model(), facts.qa, revision="v2"))
    same(remote, facts.logits(PeftModel.from_pretrained(facts.model(), facts.folders["two"])))
    older = facts.logits(PeftModel.from_pretrained(facts.model(), facts.qa, revision="v1"))
    assert not torch.equal(remote, older)


def load_again_from_cache(facts: Facts) -> None:
    """A load by tag of what is cached makes no more requests than against the Hub: six."""
    before = len(facts.seen())
    model = PeftModel.from_pretrained(facts.model(), facts.qa, revision="v2")
    made = facts.seen()[before:]
    assert 0 < len(made) <= 6, made
    same(facts.logits(model), facts.logits(PeftModel.from_pretrained(facts.model(), facts.folders["two"])))


def load_yanked(facts: Facts) -> None:
    """A yanked version loads, and PEFT's user is told why it was yanked."""
    repo = f"{facts.namespace}/yanked"
    heard = io.StringIO()
    listener = logging.StreamHandler(heard)
    logging.getLogger("huggingface_hub").addHandler(listener)
    PeftModel.from_pretrained(facts.model(), repo, revision="v1")
    assert "It was trained on the test set" in heard.getvalue(), heard.getvalue()


def load_second_adapter(facts: Facts) -> None:
    """model.load_adapter("ns/qa", "other", revision="v1")"""
    model = PeftModel.from_pretrained(facts.model(), facts.qa, revision="v2")
    model.load_adapter(facts.qa, "other", revision="v1")
    model.set_adapter("other")
    same(facts.logits(model), facts.logits(PeftModel.from_pretrained(facts.model(), facts.folders["one"])))


def load_by_transformers(facts: Facts) -> None:
    """AutoModelForCausalLM.from_pretrained("ns/with-base", revision="v1")"""
    repo = f"{facts.namespace}/with-base"
    model = train_a_little(facts)
    model.push_to_hub(repo)
    found = AutoModelForCausalLM.from_pretrained(repo, revision="v1")
    same(facts.logits(found), facts.logits(model))


def push_peft_model(facts: Facts) -> None:
    """peft_model.push_to_hub("ns/new")"""
    repo = f"{facts.namespace}/new"
    model = train_a_little(facts)
    model.push_to_hub(repo)
    assert facts.native(f"/adapters/{repo}")["latest"] == "v1"
    same(facts.logits(PeftModel.from_pretrained(facts.model(), repo, revision="v1")), facts.logits(model))
    model.push_to_hub(repo)
    assert facts.native(f"/adapters/{repo}")["latest"] == "v1"


def main_stays_good(facts: Facts) -> None:
    """Whoever pushes a config that doesn't fit breaks no reader of main."""
    repo = f"{facts.namespace}/stays-good"
    model = train_a_little(facts)
    model.push_to_hub(repo)
    config = Path(facts.tmp / "adapter_config.json")
    config.write_text(json.dumps(model.peft_config["default"].to_dict() | {"r": 16, "peft_type": "LORA"}, default=list))
    HfApi().upload_file(repo_id=repo, path_in_repo=config.name, path_or_fileobj=str(config))
    same(facts.logits(PeftModel.from_pretrained(facts.model(), repo)), facts.logits(model))
    assert facts.native(f"/adapters/{repo}")["latest"] == "v1"


def push_with_tokenizer_first(facts: Facts) -> None:
    """What comes before the adapter waits for it, and is part of its first version."""
    repo = f"{facts.namespace}/tokenizer-first"
    api = HfApi()
    api.create_repo(repo)
    api.upload_file(repo_id=repo, path_in_repo="tokenizer.json", path_or_fileobj=b"{}")
    train_a_little(facts).push_to_hub(repo)
    assert "tokenizer.json" in api.list_repo_files(repo, revision="v1")


def push_named_adapter(facts: Facts) -> None:
    """A PEFT adapter with a name of its own lies in a folder: it is refused with the way to send it."""
    model = get_peft_model(facts.model(), lora_config(facts), adapter_name="poet")
    repo = f"{facts.namespace}/named"
    with pytest.raises(HfHubHTTPError, match=r"\./poet"):
        model.push_to_hub(repo)
    model.save_pretrained(facts.tmp / "named")
    HfApi().upload_folder(repo_id=repo, folder_path=str(facts.tmp / "named" / "poet"))
    assert facts.native(f"/adapters/{repo}")["latest"] == "v1"


def push_by_trainer(facts: Facts) -> None:
    """Trainer(push_to_hub=True).train(): its saves are drafts; trainer.push_to_hub() makes the one version."""
    for strategy in ("every_save", "end"):
        repo = f"{facts.namespace}/trained-{strategy.replace('_', '-')}"
        trainer = make_trainer(facts, repo, strategy)
        trainer.train()
        trainer._finish_current_push()
        assert facts.native(f"/adapters/{repo}")["latest"] is None, strategy
        drafts = facts.native(f"/adapters/{repo}")["drafts"]
        assert [draft["problem"][:26] for draft in drafts] == ["It was saved on the way. t"] * (strategy != "end"), (
            drafts
        )
        trainer.push_to_hub()
        shown = facts.native(f"/adapters/{repo}")
        assert (shown["latest"], shown["versions"], shown["drafts"]) == ("v1", 1, []), shown
        same(facts.logits(PeftModel.from_pretrained(facts.model(), repo)), facts.logits(trainer.model))


def push_checkpoints(facts: Facts) -> None:
    """hub_strategy="checkpoint": what would go on without its optimizer is not kept; the adapter itself is."""
    for strategy in ("checkpoint", "all_checkpoints"):
        repo = f"{facts.namespace}/{strategy.replace('_', '-')}"
        trainer = make_trainer(facts, repo, strategy)
        trainer.train()
        trainer.push_to_hub()
        shown = facts.native(f"/adapters/{repo}")
        assert (shown["latest"], shown["versions"]) == ("v1", 1), shown
        assert not [name for name in HfApi().list_repo_files(repo) if "checkpoint" in name]
        refused = [job.exception() for job in trainer.push_in_progress.jobs if job.exception()]
        assert refused
        assert "hub_strategy" in str(refused[0])


def make_trainer(facts: Facts, repo: str, strategy: str) -> Trainer:
    arguments = TrainingArguments(
        output_dir=str(facts.tmp / f"trainer-{strategy}"),
        push_to_hub=True,
        hub_model_id=repo,
        hub_strategy=strategy,
        max_steps=4,
        save_steps=2,
        per_device_train_batch_size=2,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    rows = [{"input_ids": list(range(8)), "labels": list(range(8))} for _ in range(4)]
    return Trainer(model=get_peft_model(facts.model(), lora_config(facts)), args=arguments, train_dataset=rows)


def lora_config(facts: Facts) -> LoraConfig:
    return LoraConfig(
        r=4, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM", base_model_name_or_path=str(facts.base)
    )


def train_a_little(facts: Facts) -> Any:
    """Return a PEFT model whose B is not zero, on the base in `facts.base`."""
    base = AutoModelForCausalLM.from_pretrained(facts.base)
    model = get_peft_model(base, lora_config(facts))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_B" in name:
                value.normal_(std=0.1)
    return model


STEPS: tuple[Callable[[Facts], None], ...] = (
    load_by_tag,
    load_again_from_cache,
    load_yanked,
    load_second_adapter,
    push_peft_model,
    load_by_transformers,
    main_stays_good,
    push_with_tokenizer_first,
    push_named_adapter,
    push_by_trainer,
    push_checkpoints,
)


def main(facts_file: str, results_file: str) -> None:
    facts = Facts(json.loads(Path(facts_file).read_text("utf-8")))
    results = {}
    for step in STEPS:
        started = time.monotonic()
        try:
            step(facts)
            results[step.__name__] = "ok"
        except Exception:  # noqa: BLE001  # every failure is a result
            results[step.__name__] = traceback.format_exc()
        print(f"{time.monotonic() - started:6.2f}s  {results[step.__name__].splitlines()[-1][:100]}  {step.__name__}")
    Path(results_file).write_text(json.dumps(results), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
