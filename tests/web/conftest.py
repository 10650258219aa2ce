"""One registry per test: SQLite and a folder, the application in this process, the admin's token."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask

from hub.registry.service import Registry
from hub.settings import ServerSettings
from hub.web.app import create_app
from tests.support.adapters import write_adapter
from tests.web.api import Api, InProcess
from tests.web.world import World, build_world


@pytest.fixture(scope="session")
def empty_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with an up-to-date, empty schema: migrated once, copied for each test."""
    data = tmp_path_factory.mktemp("template") / "data"
    Registry.open(ServerSettings.from_env({}, data=data)).close()
    return data


@pytest.fixture
def settings(tmp_path: Path, empty_data: Path) -> ServerSettings:
    shutil.copytree(empty_data, tmp_path / "data")
    return ServerSettings.from_env({}, data=tmp_path / "data")


@pytest.fixture
def registry(settings: ServerSettings) -> Iterator[Registry]:
    opened = Registry.open(settings)
    yield opened
    opened.close()


@pytest.fixture
def admin_token(registry: Registry) -> str:
    made = registry.users.first_start()
    assert made is not None
    return made.secret


@pytest.fixture
def app(registry: Registry, settings: ServerSettings) -> Flask:
    app = create_app(registry, settings)
    app.testing = False
    return app


@pytest.fixture
def anonymous(app: Flask) -> Api:
    return Api(InProcess(app))


@pytest.fixture
def admin(anonymous: Api, admin_token: str) -> Api:
    return anonymous.as_(admin_token)


@pytest.fixture
def task(admin: Api) -> Api:
    """The admin, with a namespace `task` at hand."""
    admin.call("POST", "/namespaces", {"name": "task"}, expect=201)
    return admin


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, empty_data: Path) -> Iterator[Api]:
    """The admin of one registry for a whole file of tests, with a namespace `task`."""
    data = tmp_path_factory.mktemp("shared") / "data"
    shutil.copytree(empty_data, data)
    settings = ServerSettings.from_env({}, data=data)
    opened = Registry.open(settings)
    made = opened.users.first_start()
    assert made is not None
    admin = Api(InProcess(create_app(opened, settings)), made.secret)
    admin.call("POST", "/namespaces", {"name": "task"}, expect=201)
    yield admin
    opened.close()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Every role and scope around one private adapter, for a whole file of tests."""
    built = build_world(tmp_path_factory.mktemp("world"))
    yield built
    built.registry.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_adapter(tmp_path / "adapter", readme="---\nlicense: mit\ntags: [qa]\n---\n# An adapter\n")
