"""`hub.Model`: a base with adapters in slots.  Adding reads, using chooses, and the base itself never changes."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from hub.client.sources import RefLike
from hub.errors import Conflict, InvalidRequest
from hub.fit.parameters import ParameterSummary, summarize
from hub.runtime import four_bit
from hub.runtime import merge as merging
from hub.runtime.attach import Attachment
from hub.runtime.choosing import Use, check_rows, label_of, refs_of, rows_of
from hub.runtime.combine import combine
from hub.runtime.compiled import SlotBank, check_compilable, highest_rank
from hub.runtime.key_values import check_cache, mark_cache
from hub.runtime.library import Library
from hub.runtime.merge import MergeReport
from hub.runtime.merge_claim import MergeClaim
from hub.runtime.mixed import mix, unproven
from hub.runtime.modes import kept_tensors
from hub.runtime.module_ways import ModuleWays
from hub.runtime.origin import Origin
from hub.runtime.original import OriginalWeights
from hub.runtime.probe import compare, distribution, probe_inputs
from hub.runtime.rows import RowOrder
from hub.runtime.saving import save_merged
from hub.runtime.selection import BARE, Choice, Selection
from hub.runtime.using import Using


class Model(ModuleWays):
    """A base model that runs adapters.  What it doesn't define itself, it hands to the base.

        model = hub.load("./base-model", "task/qa@v2")
        model.generate(**inputs)                                        # with the active adapter
        model.use("task/summarize@v1")                                  # O(1)
        model.generate(**inputs, adapters=["task/qa@v2", None])         # one adapter per row

    Any number of threads may generate, each with its own adapters.  `use` is for all threads; `using` and
    `generate(adapters=…)` are for the calling thread or asyncio task.
    """

    def __init__(
        self, base: Any, library: Library, attachment: Attachment, selection: Selection, origin: Origin
    ) -> None:
        self.base = base
        self._library, self._attachment, self._selection, self._origin = library, attachment, selection, origin
        self._claim = MergeClaim(selection, library.slots)
        self._order = RowOrder(base, attachment, selection)

    # --- what is loaded and what is active

    @property
    def adapters(self) -> tuple[str, ...]:
        """The refs of the adapters in memory, the least recently used first.  A folder's ref is its absolute path."""
        return tuple(adapter.ref for adapter in self._library.slots)

    @property
    def active(self) -> str | Mapping[str, float] | None:
        """What the next forward pass of this code uses: a ref, refs with weights, or None for the bare base."""
        return self._selection.current.label

    def add(self, ref: RefLike) -> str:
        """Bring an adapter into a free slot, and return its ref with the version that it resolved to.

        It isn't active until `use`.  An adapter that is there already is left as it is.  With all slots taken, the
        least recently used adapter that isn't in use leaves; `use` brings it back.
        A failure leaves the model exactly as it was.
        Raises Incompatible, Unsupported, InvalidAdapter, Unavailable (every slot is in use), AdapterNotFound, Conflict
        (merged, or being merged).
        """
        self._claim.refuse_change("add an adapter")
        return self._library.add(ref).ref

    def remove(self, ref: RefLike) -> None:
        """Free an adapter's slot and memory.

        Raises Conflict if it is active, generating, merged or being merged, AdapterNotFound.
        """
        with self._library.slots.lock:
            if self._claim.covers(self._library.name_of(ref)):
                self._claim.refuse_change(f"remove {ref}")
            self._library.remove(ref)

    def use(self, adapter: Use, *, rank: int | None = None) -> None:
        """Choose what all threads compute from now on.  Takes microseconds, whatever is loaded and however large.

        adapter: a ref that was added, None for the bare base, or {ref: weight} for a weighted sum.
        rank: of a weighted sum: approximate it by this rank; None is exact.
        Raises AdapterNotFound for an adapter that was never added, Conflict while merged or being merged.
        """
        self._claim.refuse_change("switch")
        slots = self._library.slots
        with slots.lock:  # the way that is walked most
            loaded = slots.get(adapter) if isinstance(adapter, str) else None
            if loaded is not None:
                self._switch(loaded.choice)
                return
        with self._library.held(refs_of([adapter]), add=False):
            self._switch(self._choose(adapter, rank))

    def using(self, adapter: Use | Sequence[Use], *, rank: int | None = None) -> Using[Model]:
        """Choose for a block: `with model.using("task/qa@v2"): …`.

        adapter: as in `use`, or a list with one entry for every row of the batches to come.
        It holds for the thread or asyncio task that runs the block, and for the tasks that are started in it.  In a
        generator it holds for what the generator itself calls; a call from elsewhere while the generator waits raises
        Conflict unless it names its adapters.  It decorates functions too; a generator or coroutine function, whose
        call ends before its body runs, raises InvalidRequest.
        """
        return Using(self._using, (adapter, rank), {})

    def _using(self, adapter: Use | Sequence[Use], rank: int | None) -> Generator[Model, None, None]:
        self._claim.refuse_while_merged("switch")
        with self._choice_of(rows_of(adapter), rank):
            yield self

    def compile(self, *, max_rank: int | None = None, **options: Any) -> None:
        """Compile the base's forward pass for the adapters that are loaded and others of their kind.

        Switching, adding, removing and mixing then recompile nothing: every adapted layer gets `slots` buffers of
        `max_rank` (by default the highest rank that is loaded).  `options` go to `torch.compile`.
        Compiled calls take turns; weighted sums, DoRA and replaced modules aren't compiled.
        Raises Conflict if that was done before or something is merged or being merged, Unsupported for an adapter of
        another kind.
        """
        with (
            self._library.slots.lock,
            kept_tensors(),
        ):  # every adapter is in the bank, also one that another thread is adding
            self._claim.refuse_change("be compiled")
            bank = self._library.slots.bank = self._make_bank(max_rank)
            self.base.forward = bank.runs(torch.compile(self.base.forward, **options), self._selection)

    def _make_bank(self, max_rank: int | None) -> SlotBank:
        slots = self._library.slots
        if slots.bank is not None:
            raise Conflict("This model is compiled already.")
        loaded = tuple(slots)
        rank = max_rank or highest_rank(loaded)
        indices = {index for adapter in loaded for index in adapter.updates}
        self._order.prove(sorted(indices))  # while the base isn't compiled: compiled code can't be watched
        if not indices or not rank:
            raise Conflict("No adapter is loaded, so what to compile for isn't known. model.add(ref) first.")
        names = self._attachment.names
        modules = {index: self._attachment.modules[names[index]] for index in sorted(indices)}
        check_compilable(loaded, names, rank)
        bank = SlotBank(modules, names, slots.count, rank, self._library.placement.dtype, slots.lock)
        for adapter in loaded:
            bank.put(adapter)
        bank.check_choice(self._selection.shared)
        return bank

    # --- describing

    def summary(self, ref: RefLike | None = None) -> ParameterSummary:
        """Count the parameters of an adapter that was added, by default the active one, and of the base.

        It also says what computes the products of a 4-bit base: an instruction set, or why none of ours.
        Raises InvalidRequest if none, or a weighted sum of several, is active and `ref` doesn't say which.
        """
        asked = self.active if ref is None else ref
        if asked is None or isinstance(asked, Mapping):
            raise InvalidRequest(f"{label_of(asked)} is active: say whose summary you want, model.summary(ref).")
        counted = summarize(self._library.require(asked).content, self._attachment.spec)
        return replace(counted, kernel=four_bit.describe_products(self._attachment.modules.values()))

    def print_trainable_parameters(self) -> None:
        """Print how many parameters the active adapter has, in the words of PEFT."""
        if self.active is None:
            print(ParameterSummary(0, self._attachment.spec.parameters, ()).line())
        else:
            print(self.summary().line())

    # --- merging

    def merge(self, mode: str = "dequant") -> MergeReport:
        """Merge the active adapter into weights of its own, so that it costs nothing any more; say what that changed.

        mode: "dequant" (dense bfloat16: the same function), "from-base" (4-bit again, from the original weights, which
            are read layer by layer), or "requant" (4-bit again, from the 4-bit weights: loses small updates).
        The base's weights are kept: `unmerge` is exact.  While it runs, other threads generate as before, with their
        own adapters too; a failure leaves the model exactly as it was.
        Raises Conflict if something is merged or being merged already or nothing is active, Incompatible if `requant`
        would keep less than 0.9 of the adapter, InvalidRequest for a mode that this base doesn't have.
        """
        modules, names = self._attachment.modules, self._attachment.names
        with self._claim.running() as before:
            self._refuse_to_merge(before)
            merging.check_mode(mode, modules)
            read = OriginalWeights(self._origin.folder, dict(modules)) if mode == "from-base" else None
            with kept_tensors():
                merged, agreement = merging.merge(before, mode, modules, names, read)
                with self._library.slots.lock:  # an adapter that fails to load gives modules their own class back
                    self._attachment.adapt(names[index] for index in merged.updates)
                report = self._report(mode, before, merged, agreement)
            self._claim.settle(merged)
        return report

    def _refuse_to_merge(self, active: Choice) -> None:
        if self._library.slots.bank is not None:
            raise Conflict("This model is compiled for adapters in slots. Load it again to merge one.")
        if not active.updates:
            raise Conflict("No adapter is active, so there is nothing to merge. model.use(ref) first.")

    def unmerge(self) -> None:
        """Go back to base and adapter, exactly as they were.  Raises Conflict if nothing is merged."""
        self._claim.release()

    def save_merged(self, path: str | os.PathLike[str]) -> Path:
        """Write the merged model to a new folder, which `AutoModelForCausalLM.from_pretrained` opens.

        Dense after "dequant", 4-bit after the other modes.  Raises Conflict if nothing is merged.
        """
        choice = self._claim.in_force()
        modules, names = self._attachment.modules, self._attachment.names
        folder = Path(path).expanduser().absolute()
        with kept_tensors():
            return save_merged(self.base, choice, modules, names, folder, self._origin.find_tokenizer())

    def _report(self, mode: str, before: Choice, merged: Choice, agreement: merging.Agreement) -> MergeReport:
        placement = self._library.placement
        inputs = probe_inputs(self.base, self._origin.find_tokenizer(), placement.device)
        divergence = compare(self._answer(before, inputs), self._answer(merged, inputs))
        return MergeReport(
            mode=mode,
            adapter=label_of(before.label),
            modules=agreement.modules,
            retention=agreement.retention,
            residual=agreement.residual,
            worst=agreement.worst,
            logit_kl=divergence.kl,
            top1_agreement=divergence.same_top,
            probe_tokens=divergence.places,
        )

    def _answer(self, choice: Choice, inputs: Mapping[str, torch.Tensor] | None) -> torch.Tensor | None:
        """Return the logits that the model computes with `choice`; None if it has none, or its inputs aren't known."""
        if inputs is None:
            return None
        with self._selection.override(choice):
            return distribution(self.base(**inputs))

    # --- running

    def generate(self, *args: Any, adapters: Use | Sequence[Use] = None, **kwargs: Any) -> Any:
        """Generate as the base does, with the active adapter or with `adapters`.

        adapters: one adapter for all rows, or a list with one (or None) for every row of the batch.  Those that
            aren't loaded are added.  Rows keep their order; sampling, beams and streaming work as ever.
        """
        with self._chosen_for_call(adapters, args, kwargs):
            return self._computed(self.base.generate, args, kwargs)

    def __call__(self, *args: Any, adapters: Use | Sequence[Use] = None, **kwargs: Any) -> Any:
        """Run the base's forward pass with the active adapter, or with `adapters` as in `generate`."""
        with self._chosen_for_call(adapters, args, kwargs):
            return self._computed(self.base, args, kwargs)

    forward = __call__

    def _computed(self, compute: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        choice = self._selection.current
        check_cache(kwargs, choice)
        output = compute(*args, **kwargs)
        mark_cache(kwargs, output, choice)
        return output

    @property
    def tokenizer(self) -> Any:
        """The base's tokenizer.  Raises BaseNotFound if it has none."""
        return self._origin.tokenizer

    # --- helpers

    def _chosen_for_call(
        self, adapters: Use | Sequence[Use], args: Sequence[Any], kwargs: Mapping[str, Any]
    ) -> AbstractContextManager[None]:
        if adapters is None:
            return self._keep_choice()
        self._claim.refuse_while_merged("choose adapters")
        rows = rows_of(adapters)
        if rows is adapters:
            check_rows(rows, args, kwargs)
        return self._choice_of(rows, is_call=True)

    @contextmanager
    def _keep_choice(self) -> Iterator[None]:
        """Go on with this thread's choice, whatever `use` does meanwhile."""
        with self._library.slots.lock:
            choice = self._selection.current
            self._library.slots.pin(choice.refs)
        with self._in_force(choice, is_call=True):
            yield

    @contextmanager
    def _choice_of(self, rows: Sequence[Use], rank: int | None = None, *, is_call: bool = False) -> Iterator[None]:
        """Choose for a block: one adapter per row, or one for all.  A call adds those that aren't loaded."""
        with self._library.held(refs_of(rows), add=is_call):
            choices = [self._choose(row, rank) for row in rows]
            choice = choices[0] if all(choice is choices[0] for choice in choices) else self._mix(choices)
            self._library.slots.pin(choice.refs)
        with self._in_force(choice, is_call=is_call):
            yield

    @contextmanager
    def _in_force(self, choice: Choice, *, is_call: bool) -> Iterator[None]:
        bank = self._library.slots.bank
        try:
            self._attachment.check_ends(choice.updates)
            if bank is not None:
                bank.check_choice(choice)
            with self._selection.override(choice, is_call=is_call):
                yield
        finally:
            self._library.slots.unpin(choice.refs)

    def _switch(self, choice: Choice) -> None:
        """Make `choice` the one for all threads."""
        slots = self._library.slots
        with slots.lock:
            self._claim.refuse_change("switch")  # a merge may have begun while the adapter was read
            if slots.bank is not None:
                slots.bank.check_choice(choice)
            slots.pin(choice.refs)
            before, self._selection.shared = self._selection.shared, choice
            slots.unpin(before.refs)

    def _mix(self, rows: Sequence[Choice]) -> Choice:
        """Return the choice of one adapter per row.  Compiled code checks nothing, so all is asked before it runs."""
        mixed = mix(rows, self._attachment.names, self._library.placement.device, self._order)
        if self._library.slots.bank is not None:
            for index in mixed.updates:
                if not self._order.dimensions(index):
                    raise unproven(self._attachment.names[index])
        return mixed

    def _choose(self, adapter: Use, rank: int | None = None) -> Choice:
        """Return the choice of adapters that are in memory."""
        if adapter is None:
            return BARE
        if isinstance(adapter, Mapping):
            if not adapter:
                raise InvalidRequest("An empty combination: give {ref: weight, …}, or None for the bare base.")
            parts = [(self._library.require(ref).choice, float(weight)) for ref, weight in adapter.items()]
            return combine(parts, self._attachment.names, rank)
        return self._library.require(adapter).choice
