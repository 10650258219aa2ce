"""The operator's page names every setting, and no other."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from hub.settings import ServerSettings

PAGE = Path(__file__).resolve().parents[2] / "docs" / "operations.md"


def test_every_setting_of_the_server_is_in_the_operators_table() -> None:
    described = set(re.findall(r"^\|[^|]*\| `(LORAHUB_[A-Z_]+)` \|", PAGE.read_text("utf-8"), re.MULTILINE))
    assert described == {f"LORAHUB_{field.name.upper()}" for field in fields(ServerSettings)}


def test_every_setting_is_read_from_its_variable(tmp_path: Path) -> None:
    numbers = {field.name for field in fields(ServerSettings) if field.type == "int"}
    for field in fields(ServerSettings):
        variable = f"LORAHUB_{field.name.upper()}"
        text = "7" if field.name in numbers else str(tmp_path / "x")
        value = getattr(ServerSettings.from_env({"LORAHUB_DATA": str(tmp_path)} | {variable: text}), field.name)
        expected = {"trusted_hosts": (text,), "data": Path(text)}.get(field.name, 7 if field.name in numbers else text)
        assert value == expected, variable
