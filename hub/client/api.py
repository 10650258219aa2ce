"""The registry's API, call by call: a method takes and gives values, and raises what the registry raised."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any
from urllib.parse import quote

from hub.adapter.facets import FACETS
from hub.adapter.publication import Publication
from hub.client.connection import Connection
from hub.client.records import AdapterInfo, AliasInfo, Identity, Reader, SearchPage, UploadPlan, VersionInfo
from hub.manifest import FileEntry, Manifest
from hub.refs import UNCHECKED, AdapterName, AdapterRef, Unchecked
from hub.settings import ClientSettings


@dataclass(frozen=True, slots=True)
class Search:
    """What to search for.  Empty fields restrict nothing.

    having: a facet's name -> the wanted value, or several.  size_max: bytes.  metric: conditions such as
    `accuracy>=0.9`.  sort: new, downloads, recent or name.
    """

    text: str = ""
    having: Mapping[str, object] = field(default_factory=dict)
    rank_min: int | None = None
    rank_max: int | None = None
    size_max: int | None = None
    metric: tuple[str, ...] = ()
    sort: str = "recent"
    limit: int = 100
    cursor: str | None = None
    facets: bool = False

    def to_params(self) -> dict[str, Any]:
        names = (field.name for field in fields(self) if field.name not in {"text", "having"})
        return {"q": self.text} | dict(self.having) | {name: getattr(self, name) for name in names}

    @classmethod
    def of(cls, text: str = "", **filters: Any) -> Search:
        """Take facets by their names, beside the other fields.  Raises TypeError for what is neither."""
        having = {facet.name: filters.pop(facet.name) for facet in FACETS if facet.name in filters}
        return cls(text, having, **filters)


class Client:
    """A registry.  Threads may share one.  Close it, or use it in a `with`."""

    def __init__(self, settings: ClientSettings, connection: Connection | None = None) -> None:
        self.settings = settings
        self.connection = connection or Connection(settings)

    def close(self) -> None:
        self.connection.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- reading

    def resolve(self, ref: AdapterRef) -> VersionInfo:
        """Return the version that `ref` means now, with its manifest: one GET."""
        return VersionInfo.from_json(self.connection.get_json(_version_path(ref)))

    def adapter(self, name: AdapterName) -> AdapterInfo:
        return AdapterInfo.from_json(self.connection.get_json(_adapter_path(name)))

    def versions(self, name: AdapterName) -> tuple[VersionInfo, ...]:
        """Return every version, newest first, without manifests."""
        body = Reader(self.connection.get_json(f"{_adapter_path(name)}/versions"), "list of versions")
        return tuple(VersionInfo.from_json(item) for item in body.items("items"))

    def search(self, query: Search) -> SearchPage:
        return SearchPage.from_json(self.connection.get_json("/api/v1/adapters", query.to_params()))

    def search_counted(self, query: Search, at_most: int) -> tuple[list[AdapterInfo], int]:
        """Return up to `at_most` adapters, from as many pages as that takes, and how many there are in all."""
        found: list[AdapterInfo] = []
        while True:
            page = self.search(replace(query, limit=min(query.limit, at_most - len(found))))
            found.extend(page.items[: at_most - len(found)])
            if page.next_cursor is None or not page.items or len(found) >= at_most:
                return found, page.total
            query = replace(query, cursor=page.next_cursor)

    def whoami(self) -> Identity:
        return Identity.from_json(self.connection.get_json("/api/v1/whoami"))

    def file_path(self, ref: AdapterRef, path: str) -> str:
        """Return where the bytes of one file are served."""
        return f"{_version_path(ref)}/files/{quote(path)}"

    # --- publishing

    def request_uploads(self, name: AdapterName, blobs: Iterable[FileEntry]) -> dict[str, UploadPlan | None]:
        """Return, by sha256, where to send each blob; None for those that the registry has."""
        asked = {blob.sha256: {"sha256": blob.sha256, "size": blob.size} for blob in blobs}
        # An upload that was asked for twice is one upload, so this may be tried again.
        response = self.connection.call(
            "POST", f"{_adapter_path(name)}/uploads", json={"blobs": list(asked.values())}, again=True
        )
        answered: dict[str, UploadPlan | None] = {}
        for item in Reader(self.connection.decode(response), "list of uploads").items("blobs"):
            answered[Reader(item, "upload").text("sha256")] = UploadPlan.from_json(item)
        return {sha256: answered.get(sha256) for sha256 in asked}

    def publish(self, name: AdapterName, manifest: Manifest, publication: Publication) -> tuple[VersionInfo, bool]:
        """Make a version of blobs that the registry has.  Returns it, and whether it is new.

        Equal content is the same version, so this may be tried again.
        """
        body = {"manifest": manifest.to_json()} | publication.to_json()
        response = self.connection.call("POST", f"{_adapter_path(name)}/versions", json=body, again=True)
        return VersionInfo.from_json(self.connection.decode(response)), response.status_code == 201

    def import_version(
        self, name: AdapterName, url: str, *, message: str = "", token: str | None = None
    ) -> tuple[VersionInfo, bool]:
        """Have the registry itself fetch and publish what is at `url`.  Returns the version, and whether it is new.

        token: for the server at `url`.  May take as long as the registry's download, half an hour at most; who stops
        waiting cancels it.
        """
        body = {"url": url, "message": message, "token": token}
        kept = {key: value for key, value in body.items() if value}
        response = self.connection.call("POST", f"{_adapter_path(name)}/import", json=kept, again=False, patient=True)
        return VersionInfo.from_json(self.connection.decode(response)), response.status_code == 201

    # --- changing what is there

    def set_alias(
        self,
        name: AdapterName,
        alias: str,
        version: int,
        *,
        expected: int | Unchecked | None = UNCHECKED,
        protected: bool | None = None,
    ) -> AliasInfo:
        """Point `alias` to a version.  With `expected`, only if it points there now (None: if it isn't there yet)."""
        body: dict[str, Any] = {"version": version}
        if expected is not UNCHECKED:
            body["expected"] = expected
        if protected is not None:
            body["protected"] = protected
        # Moved twice to the same place it still points there, unless the first move already changed what was expected.
        again = expected is UNCHECKED
        response = self.connection.call("PUT", _alias_path(name, alias), json=body, again=again)
        return AliasInfo.from_json(self.connection.decode(response))

    def delete_alias(self, name: AdapterName, alias: str) -> None:
        self.connection.call("DELETE", _alias_path(name, alias), again=False)

    def alias_history(self, name: AdapterName, alias: str) -> list[dict[str, Any]]:
        """Return the moves of an alias, newest first."""
        answer = self.connection.get_json(f"{_alias_path(name, alias)}/history")
        return [Reader(item, "alias move").payload for item in Reader(answer, "alias history").items("items")]

    def update_adapter(
        self, name: AdapterName, *, private: bool | None = None, gated: bool | None = None
    ) -> AdapterInfo:
        """Change who may read an adapter; None leaves as it is.  gated: its files are for members of the namespace."""
        changes = {"private": private, "gated": gated}
        body = {key: value for key, value in changes.items() if value is not None}
        response = self.connection.call("PATCH", _adapter_path(name), json=body, again=True)
        return AdapterInfo.from_json(self.connection.decode(response))

    def yank(self, name: AdapterName, version: int, reason: str) -> None:
        self.connection.call("POST", f"{_version_path(name.at(version))}/yank", json={"reason": reason}, again=True)

    def unyank(self, name: AdapterName, version: int) -> None:
        self.connection.call("DELETE", f"{_version_path(name.at(version))}/yank", again=True)

    def deprecate(
        self, name: AdapterName, version: int | None, reason: str, successor: AdapterRef | None = None
    ) -> None:
        """Advise against a version, or with None against the whole adapter."""
        body = {"reason": reason, "successor": str(successor) if successor else None}
        self.connection.call("PUT", _deprecation_path(name, version), json=body, again=True)

    def undeprecate(self, name: AdapterName, version: int | None) -> None:
        self.connection.call("DELETE", _deprecation_path(name, version), again=True)

    def set_metric(
        self, name: AdapterName, version: int, metric: str, value: float, dataset: str | None = None
    ) -> None:
        """Attach an evaluation's result to a version; the same metric and dataset again replaces it."""
        body = {"name": metric, "value": value} | ({"dataset": dataset} if dataset else {})
        self.connection.call("PUT", f"{_version_path(name.at(version))}/metrics", json=body, again=True)

    def delete_version(self, name: AdapterName, version: int) -> None:
        self.connection.call("DELETE", _version_path(name.at(version)), again=False)

    def delete_adapter(self, name: AdapterName) -> None:
        self.connection.call("DELETE", _adapter_path(name), again=False)


def _adapter_path(name: AdapterName) -> str:
    return f"/api/v1/adapters/{name}"


def _version_path(ref: AdapterRef) -> str:
    return f"{_adapter_path(ref.adapter)}/versions/{quote(ref.selector, safe=':')}"


def _deprecation_path(name: AdapterName, version: int | None) -> str:
    return f"{_adapter_path(name) if version is None else _version_path(name.at(version))}/deprecation"


def _alias_path(name: AdapterName, alias: str) -> str:
    return f"{_adapter_path(name)}/aliases/{quote(alias, safe='')}"
