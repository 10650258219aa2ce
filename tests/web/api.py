"""Speak the API to an application in this process or to a server on a socket, with the same words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx2
from flask import Flask

from hub.adapter.files import build_manifest
from hub.manifest import Manifest


@dataclass(frozen=True)
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The error's code."""
        return str(self.json["error"]["code"])


class Sender(Protocol):
    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer: ...


class InProcess:
    """Flask's test client: no socket, the same WSGI application."""

    def __init__(self, app: Flask) -> None:
        self._client = app.test_client(use_cookies=False)

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        response = self._client.open(path, method=method, headers=headers, data=body)
        return Answer(response.status_code, response.headers, response.get_data())


class OverSocket:
    def __init__(self, url: str) -> None:
        # Loopback has no certificates: loading them would be most of what a client costs here.
        self._client = httpx2.Client(base_url=url, timeout=60, trust_env=False, verify=False)

    def send(self, method: str, path: str, headers: dict[str, str], body: bytes | None) -> Answer:
        response = self._client.request(method, path, headers=headers, content=body)
        return Answer(response.status_code, response.headers, response.content)


@dataclass
class Api:
    """One caller: where, and with whose token."""

    sender: Sender
    token: str | None = None

    def as_(self, token: str | None) -> Api:
        return Api(self.sender, token)

    def call(
        self,
        method: str,
        path: str,
        payload: object = None,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        expect: int | None = None,
    ) -> Answer:
        sent = dict(headers or {})
        if self.token:
            sent.setdefault("Authorization", f"Bearer {self.token}")
        if payload is not None:
            body = json.dumps(payload).encode()
            sent.setdefault("Content-Type", "application/json")
        answer = self.sender.send(method, f"/api/v1{path}" if not path.startswith("/api") else path, sent, body)
        if expect is not None:
            assert answer.status == expect, f"{method} {path}: {answer.status} {answer.body[:600]!r}"
        return answer

    def get(self, path: str, expect: int = 200, **headers: str) -> Answer:
        return self.call("GET", path, headers={k.replace("_", "-"): v for k, v in headers.items()}, expect=expect)

    def upload(self, name: str, folder: Path, manifest: Manifest) -> None:
        """Send what the server says is missing, from the offset that it says."""
        wanted = {entry.sha256: entry for entry in manifest.files}
        asked = [{"sha256": entry.sha256, "size": entry.size} for entry in wanted.values()]
        for state in self.call("POST", f"/adapters/{name}/uploads", {"blobs": asked}, expect=200).json["blobs"]:
            if state["state"] == "upload":
                data = (folder / wanted[state["sha256"]].path).read_bytes()
                self.append(state["upload"], data[state["upload"]["offset"] :])

    def push_parts(self, folder: Path, name: str, **more: Any) -> Any:
        """Push to a registry whose store takes parts at signed URLs; return the version's JSON."""
        manifest = build_manifest(folder)
        wanted = {entry.sha256: (folder / entry.path).read_bytes() for entry in manifest.files}
        asked = [{"sha256": sha256, "size": len(data)} for sha256, data in wanted.items()]
        for state in self.call("POST", f"/adapters/{name}/uploads", {"blobs": asked}, expect=200).json["blobs"]:
            if state["state"] == "upload":
                self._put_parts(state["upload"], wanted[state["sha256"]])
        return self.call("POST", f"/adapters/{name}/versions", {"manifest": manifest.to_json()} | more, expect=201).json

    def _put_parts(self, upload: Mapping[str, Any], data: bytes) -> None:
        done = []
        for part in upload["parts"]:
            start = (part["number"] - 1) * upload["part_size"]
            piece = data[start : start + upload["part_size"]]
            sent = httpx2.put(part["href"], content=piece, trust_env=False)
            done.append({"number": part["number"], "etag": sent.headers["ETag"]})
        self.call("POST", f"/uploads/{upload['id']}/complete", {"parts": done}, expect=200)

    def append(self, upload: Mapping[str, Any], data: bytes, expect: int = 204) -> Answer:
        headers = {"Upload-Offset": str(upload["offset"]), "Content-Type": "application/offset+octet-stream"}
        return self.call("PATCH", upload["href"], body=data, headers=headers, expect=expect)

    def push(self, folder: Path, name: str, *, expect: int = 201, **more: Any) -> Any:
        """Push a PEFT folder; return the version's JSON."""
        manifest = build_manifest(folder)
        self.upload(name, folder, manifest)
        body = {"manifest": manifest.to_json()} | more
        return self.call("POST", f"/adapters/{name}/versions", body, expect=expect).json
