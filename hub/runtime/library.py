"""The adapters that one model knows: resolve a ref, load it into a slot, find it again after it had to leave."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hub.client.sources import RefLike, parse_source
from hub.errors import AdapterNotFound, Conflict
from hub.manifest import CONFIG_FILE, WEIGHTS_FILE, Manifest
from hub.refs import AdapterRef
from hub.runtime.adapters import Placement, load_adapter, placement_of
from hub.runtime.attach import Attachment
from hub.runtime.loaded import Loaded
from hub.runtime.slots import Slots
from hub.runtime.trained_in import say_if_trained_dense
from hub.runtime.uncalled import refuse_unread

if TYPE_CHECKING:
    from hub.base.spec import BaseSpec
    from hub.client.records import VersionInfo
    from hub.runtime.base_check import BaseCheck
    from hub.settings import ClientSettings

Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True)
class Known:
    """An adapter that was added once.

    stamp: of its files, to notice a folder that was written again.  is_immutable: the folder is the cache's.
    """

    ref: str
    folder: Path
    stamp: Stamp
    is_immutable: bool


class Library:
    """Names are fixed when they are first added: `task/qa` goes on meaning the version that it resolved to then."""

    def __init__(
        self,
        slots: Slots,
        attachment: Attachment,
        placement: Placement,
        settings: ClientSettings | None,
        check: BaseCheck,
    ) -> None:
        self.slots, self.placement = slots, placement
        self._attachment, self._settings, self._check = attachment, settings, check
        self._known: dict[str, Known] = {}
        self._names: dict[str, str] = {}  # what a caller wrote -> the ref it resolved to
        self._resolved: dict[str, VersionInfo] = {}

    @property
    def spec(self) -> BaseSpec | None:
        """What is known of the base."""
        return self._check.spec

    def add(self, ref: RefLike) -> Loaded:
        """Return the adapter, loaded.  Nothing changes if that fails."""
        source = parse_source(ref)
        if isinstance(source, Path):
            return self._add_folder(ref, source)
        exact = self.slots.get(str(source)) if source.is_immutable else None
        return exact or self._add_version(ref, source)

    def expect(self, resolved: Mapping[str, VersionInfo]) -> None:
        """Take these refs as resolved when they are added next: the registry has been asked, and the answer checked."""
        self._resolved.update(resolved)

    def require(self, ref: RefLike, *, add: bool = False) -> Loaded:
        """Return an adapter that was added, reading it again if it had to leave its slot.

        Raises AdapterNotFound if it never was; with `add`, it is added instead.
        """
        name = ref if isinstance(ref, str) else str(ref)
        name = self._names.get(name, name)
        loaded = self.slots.get(name)
        if loaded is not None:
            return loaded
        with self.slots.lock:
            known = self._find(ref)
            if known is not None:
                return self.slots.get(known.ref) or self._reload(known)
        if add:
            return self.add(ref)
        loaded_now = ", ".join(adapter.ref for adapter in self.slots) or "none"
        raise AdapterNotFound(f"{ref} isn't loaded: model.add({str(ref)!r}) first. Loaded: {loaded_now}.")

    def name_of(self, ref: RefLike) -> str | None:
        """Return the ref that an adapter which was added goes by, in memory or not; None if it never was."""
        known = self._find(ref)
        return None if known is None else known.ref

    @contextmanager
    def held(self, refs: Iterable[RefLike], *, add: bool) -> Iterator[list[Loaded]]:
        """Yield several adapters, all in memory at once and staying there while the block runs."""
        with ExitStack() as stack:
            loaded = []
            for ref in refs:
                loaded.append(self._pin(ref, add=add))
                stack.callback(self.slots.unpin, [loaded[-1].ref])
            yield loaded

    def _pin(self, ref: RefLike, *, add: bool) -> Loaded:
        """Load if need be, and pin; another thread may push the adapter out between the two, so look again."""
        while True:
            loaded = self.require(ref, add=add)
            with self.slots.lock:
                if self.slots.get(loaded.ref) is loaded:
                    self.slots.pin([loaded.ref])
                    return loaded

    def remove(self, ref: RefLike) -> None:
        """Forget an adapter and free its memory.  Raises Conflict while it is in use, AdapterNotFound."""
        with self.slots.lock:
            known = self._find(ref)
            if known is None:
                raise AdapterNotFound(f"{ref} isn't loaded, so it can't be removed.")
            if self.slots.is_pinned(known.ref):
                raise Conflict(f"{known.ref} is in use. Choose another first, e.g. model.use(None), then remove it.")
            if known.ref in self.slots:
                self.slots.drop(known.ref)
            del self._known[known.ref]
            self._names = {asked: meant for asked, meant in self._names.items() if meant != known.ref}

    def _find(self, ref: RefLike) -> Known | None:
        name = self._names.get(str(ref), str(ref))
        return self._known.get(name) or self._known.get(_folder_name(ref))

    def _add_folder(self, asked: RefLike, folder: Path) -> Loaded:
        name = _folder_name(folder)
        with self.slots.lock:
            known = self._known.get(name)
            if known is not None and known.stamp != _stamp(Path(name)):
                raise Conflict(
                    f"{name} is loaded, and its files have changed since. To take the new ones: "
                    f"model.remove({name!r}), then add it again."
                )
            if known is None:
                self._check.folder(name, Path(name), self._settings)
            return self._load(asked, name, Path(name), None)

    def _add_version(self, asked: RefLike, source: AdapterRef) -> Loaded:
        from hub.client import sync

        if self._settings is None:
            raise AdapterNotFound(f"{source} names a registry's adapter, and this model was loaded without a registry.")
        asked_before = self._resolved.pop(str(source), None)
        info = asked_before or sync.resolve(source, self._settings)
        name = str(info.ref)
        loaded = self._loaded_as(asked, name)
        if loaded is not None:
            return loaded
        if info.manifest is not None and asked_before is None:
            self._check.manifest(name, info.manifest)
        return self._load(asked, name, sync.fetch(info, self._settings), info.manifest)

    def _loaded_as(self, asked: RefLike, name: str) -> Loaded | None:
        """Return the adapter if it is in memory, and remember what it was asked for by."""
        with self.slots.lock:
            loaded = self.slots.get(name)
            if loaded is not None:
                self._names[str(asked)] = name
            return loaded

    def _load(self, asked: RefLike, name: str, folder: Path, manifest: Manifest | None) -> Loaded:
        with self.slots.lock:
            there = self._loaded_as(asked, name)  # another thread may have loaded it while this one fetched or waited
            if there is not None:
                return there
            self.slots.check_room()
            self._attachment.refresh(index for adapter in self.slots for index in adapter.updates)
            known = Known(name, folder, _stamp(folder), manifest is not None)
            loaded = self._take(known)
            if name not in self._known:
                say_if_trained_dense(name, folder, self._attachment.modules.values())
            self._known[name] = known
            self._names[str(asked)] = name
            return loaded

    def _reload(self, known: Known) -> Loaded:
        """Bring an adapter back.  The caller holds the lock, and has looked for it."""
        self.slots.check_room()
        self._refuse_changed(known)
        return self._take(known)

    def _refuse_changed(self, known: Known) -> None:
        if _stamp(known.folder) != known.stamp:
            raise Conflict(
                f"The files of {known.ref} have changed or gone since it was added, so it can't come back as it "
                f"was. model.remove({known.ref!r}), then add it again."
            )

    def check_unchanged(self) -> None:
        """Raise Conflict if an adapter in memory couldn't be read again as it was."""
        for adapter in self.slots:
            self._refuse_changed(self._known[adapter.ref])

    def place_again(self) -> None:
        """Put every adapter in memory where the base is now, and in its type.  The caller holds the lock."""
        placement = placement_of(self._attachment)
        if placement == self.placement:
            return
        self.placement = placement
        for adapter in self.slots:
            self.slots.replace(self._read(self._known[adapter.ref]))

    def _take(self, known: Known) -> Loaded:
        """Read an adapter and give it a slot: both or neither."""
        loaded = self._read(known)
        with self._attachment.adapted(self._attachment.names[index] for index in loaded.updates):
            refuse_unread(self._attachment, loaded.updates)
            self.slots.put(loaded)
        return loaded

    def _read(self, known: Known) -> Loaded:
        return load_adapter(known.ref, known.folder, self._attachment, self.placement, is_immutable=known.is_immutable)


def _folder_name(ref: RefLike) -> str:
    return os.path.abspath(os.path.expanduser(str(ref)))


def _stamp(folder: Path) -> Stamp:
    """Return what changes when a file of the adapter is written again."""
    stamps = []
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            stat = os.stat(folder / name)
        except OSError:
            stamps.append((0, 0, 0))
        else:
            stamps.append((stat.st_size, stat.st_mtime_ns, stat.st_ino))
    return tuple(stamps)
