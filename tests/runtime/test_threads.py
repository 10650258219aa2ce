"""Two threads at one model: what one does while the other is in the middle of something."""

from __future__ import annotations

import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import hub.client.sync
from hub.errors import AdapterNotFound, Conflict, Incompatible, InvalidRequest
from hub.refs import AdapterRef
from hub.runtime import library as library_module
from hub.runtime import merge as merging
from hub.runtime import model as model_module
from tests.runtime import support
from tests.runtime.support import Overtaken, in_thread, load_model, logits, write_adapter


@pytest.fixture(scope="module")
def folders(base, tmp_path_factory) -> list[Path]:
    root = tmp_path_factory.mktemp("adapters")
    return [
        write_adapter(base, root / f"a{i}", seed=i, r=2, size=0.05, target_modules=["q_proj", "down_proj"])
        for i in range(3)
    ]


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The refs that were read, in order."""
    seen: list[str] = []
    load = library_module.load_adapter

    def watched(ref, *args, **options):
        seen.append(ref)
        return load(ref, *args, **options)

    monkeypatch.setattr(library_module, "load_adapter", watched)
    return seen


# --- merging


def during(monkeypatch, module, name, do) -> list:
    """Let another thread do `do` in the middle of a merge: the first time that `module.name` is called."""
    outcomes: list = []
    real = getattr(module, name)

    def paused(*args, **options):
        if not outcomes:
            outcomes.append(None)
            outcomes[0] = in_thread(do)
        return real(*args, **options)

    monkeypatch.setattr(module, name, paused)
    return outcomes


STEPS = pytest.mark.parametrize(
    ("module", "name"), [(merging, "merge"), (model_module, "compare")], ids=["sums", "end"]
)
CHANGES = {
    "use": lambda model, one, two, new: model.use(str(two)),
    "use a folder": lambda model, one, two, new: model.use(two),
    "use a sum": lambda model, one, two, new: model.use({one: 1.0, two: 1.0}),
    "use the base": lambda model, one, two, new: model.use(None),
    "add": lambda model, one, two, new: model.add(new),
    "remove": lambda model, one, two, new: model.remove(one),
    "merge": lambda model, one, two, new: model.merge(),
    "compile": lambda model, one, two, new: model.compile(backend="eager"),
}


@STEPS
@pytest.mark.parametrize("change", CHANGES)
def test_nothing_overtakes_a_merge(change, module, name, base, folders, monkeypatch):
    one, two, new = folders
    model = load_model(base, one, two)
    expected = {folder: logits(model, adapters=folder) for folder in (one, two)}
    refused = during(monkeypatch, module, name, lambda: CHANGES[change](model, one, two, new))
    model.merge()
    assert isinstance(refused[0], Conflict)
    assert f"{one} is being merged" in str(refused[0])
    assert "model.unmerge() first" in str(refused[0])
    assert support.relative_error(logits(model), expected[one]) < 1e-5
    assert set(model.adapters) == {str(one), str(two)}
    model.unmerge()
    assert torch.equal(logits(model), expected[one])
    model.use(two)  # and who is in use is still counted right
    assert torch.equal(logits(model), expected[two])
    model.remove(one)
    with pytest.raises(Conflict, match="is in use"):
        model.remove(two)


@STEPS
def test_a_merge_makes_no_call_wait(module, name, base, folders, monkeypatch):
    model = load_model(base, *folders[:2])
    expected = [logits(model), logits(model, adapters=folders[1]), logits(model, adapters=folders[2])]
    model.remove(folders[2])

    def calls():
        with model.using(folders[1]):
            used = logits(model)
        generated = model.generate(input_ids=support.TOKENS, max_new_tokens=2, pad_token_id=0)
        assert generated.shape == (2, 10)
        return [logits(model), used, logits(model, adapters=folders[2])]

    found = during(monkeypatch, module, name, calls)
    model.merge()
    assert all(torch.equal(ours, alone) for ours, alone in zip(found[0], expected, strict=True))


def test_a_use_that_began_before_a_merge_does_not_end_it(base, folders, monkeypatch):
    """It has been let in, reads its adapter, and meanwhile the merge begins."""
    model = load_model(base, *folders[:2])
    expected = logits(model)
    is_reading, may_go_on = threading.Event(), threading.Event()
    choose = model._choose

    def slow(*args):
        is_reading.set()
        assert may_go_on.wait(60)
        return choose(*args)

    monkeypatch.setattr(model, "_choose", slow)
    refused: list = []

    def use():
        try:
            model.use(folders[1])
        except Conflict as error:
            refused.append(error)

    late = threading.Thread(target=use)
    late.start()
    assert is_reading.wait(60)

    def let_it_go_on():
        may_go_on.set()
        late.join(60)

    during(monkeypatch, merging, "merge", let_it_go_on)
    model.merge()
    assert len(refused) == 1
    assert "is being merged, so this model can't switch" in str(refused[0])
    model.unmerge()
    assert torch.equal(logits(model), expected)
    model.use(folders[1])


@pytest.mark.parametrize("failure", ["refused", "broken", "wrong mode"])
def test_a_merge_that_fails_lets_go_of_the_model(failure, base, folders, monkeypatch):
    model = load_model(base, *folders[:2], quantize="nf4")
    before = logits(model)

    def fail(*args):
        raise MemoryError

    with monkeypatch.context() as patched:
        if failure == "broken":
            patched.setattr(model_module, "compare", fail)
        with pytest.raises((Incompatible, MemoryError, InvalidRequest)):
            model.merge({"refused": "requant", "broken": "dequant", "wrong mode": "squash"}[failure])
    assert torch.equal(logits(model), before)
    model.use(folders[1])
    model.add(folders[2])
    model.merge()


@pytest.mark.parametrize("late", ["unmerge", "save"])
def test_whoever_comes_after_an_unmerge_is_told_so(late, base, folders, tmp_path):
    model = load_model(base, folders[0])
    before = logits(model)
    model.merge()
    overtaken = Overtaken(model._library.slots, model.unmerge)
    with pytest.raises(Conflict, match="Nothing is merged"):
        model.unmerge() if late == "unmerge" else model.save_merged(tmp_path / "merged")
    assert overtaken.result is None
    assert torch.equal(logits(model), before)


# --- loading


def test_a_folder_that_two_threads_add_is_read_once(base, folders, loads):
    model = load_model(base, folders[0], slots=2)
    model.add(folders[2])
    overtaken = Overtaken(model._library.slots, lambda: model.add(folders[1]))
    assert model.add(folders[1]) == str(folders[1])
    assert overtaken.result == str(folders[1])
    assert loads.count(str(folders[1])) == 1
    assert model.adapters == (str(folders[0]), str(folders[1])), "only the one that had to has left"


def test_an_adapter_that_two_threads_bring_back_is_read_once(base, folders, loads):
    model = load_model(base, *folders[:2], slots=2)
    model.add(folders[2])
    assert str(folders[1]) not in model.adapters
    loads.clear()
    with ExitStack() as running:
        held = model._library.held([folders[1]], add=False)
        Overtaken(model._library.slots, lambda: running.enter_context(held))
        assert model.summary(folders[1]).trainable > 0  # both slots are in use: for a second copy there is no room
    assert loads == [str(folders[1])]


def test_an_adapter_that_was_removed_meanwhile_does_not_come_back(base, folders, loads):
    model = load_model(base, *folders[:2], slots=2)
    model.add(folders[2])
    loads.clear()
    Overtaken(model._library.slots, lambda: model.remove(folders[1]))
    with pytest.raises(AdapterNotFound):
        model.summary(folders[1])
    assert loads == []


def test_a_version_that_two_threads_fetch_is_read_once(base, folders, loads, monkeypatch):
    """Both have found it absent, and both have it on disk when the first one reads it."""
    model = load_model(base, folders[0], slots=2)
    both = threading.Barrier(2, timeout=60)
    info = SimpleNamespace(ref=AdapterRef.parse("task/qa@v1"), manifest=None)
    monkeypatch.setattr(hub.client.sync, "resolve", lambda *args: info)

    def fetch(*args):
        both.wait()
        return folders[1]

    monkeypatch.setattr(hub.client.sync, "fetch", fetch)
    with ThreadPoolExecutor(2) as pool:
        calls = [pool.submit(logits, model, adapters="task/qa@v1") for _ in range(2)]
    found = [call.result() for call in calls]
    assert loads.count("task/qa@v1") == 1
    assert all(torch.equal(ours, logits(load_model(base, folders[1]))) for ours in found)


def test_a_folder_that_changed_while_another_thread_added_it_is_not_taken_for_the_same(base, folders, tmp_path):
    mine = Path(shutil.copytree(folders[0], tmp_path / "mine"))
    model = load_model(base)

    def add_and_write_again():
        model.add(mine)
        shutil.copyfile(folders[1] / "adapter_model.safetensors", tmp_path / "new")
        (tmp_path / "new").replace(mine / "adapter_model.safetensors")

    Overtaken(model._library.slots, add_and_write_again)
    with pytest.raises(Conflict, match="have changed since"):
        model.add(mine)
