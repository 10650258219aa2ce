"""A facet is one entry and one column: the search, its counts, the API, the page and the command line have it then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json
import sys
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.orm import mapped_column
from sqlalchemy.types import Integer

from hub.adapter import facets

# The entry …
entry = facets.Facet(
    "tensors", "Number of tensors", "How many tensors it has.", "tensor_count", lambda c: len(c.tensors), kind=int
)
facets.FACETS, facets.COUNTED, facets.KEPT = ((*each, entry) for each in (facets.FACETS, facets.COUNTED, facets.KEPT))

# … and the column.
from hub.registry.db.models import AdapterRow, VersionRow

VersionRow.tensor_count = mapped_column(Integer)
AdapterRow.tensor_count = mapped_column(Integer)

from click.testing import CliRunner

from hub.cli import lorahub
from hub.settings import ServerSettings
from hub.web.app import create_app
from tests.registry.world import World

folder = Path(sys.argv[1])
settings = ServerSettings(data=folder, database=f"sqlite:///{folder / 'registry.sqlite3'}", store=str(folder / "store"))
world = World.open(settings, folder)
with world.context.database.engine.begin() as connection:
    for table in ("versions", "adapters"):
        connection.execute(text(f"ALTER TABLE {table} ADD COLUMN tensor_count INTEGER"))
world.push("task/small", world.adapter(seed=1, layers=1, targets=("q_proj",)))
world.push("task/large", world.adapter(seed=2, layers=3, targets=("q_proj", "v_proj")))

client = create_app(world.registry, settings).test_client()
found = {number: client.get("/api/v1/adapters", query_string={"tensors": number}).json for number in (2, 12, 7)}
parameters = client.get("/api/v1/openapi.json").json["paths"]["/api/v1/adapters"]["get"]["parameters"]
json.dump(
    {
        "found": {number: [item["name"] for item in page["items"]] for number, page in found.items()},
        "counted": client.get("/api/v1/adapters").json["facets"]["tensors"],
        "refused": client.get("/api/v1/adapters", query_string={"tensors": "many"}).status_code,
        "openapi": [each["schema"] for each in parameters if each["name"] == "tensors"],
        "page": client.get("/", query_string={"tensors": "12"}).text,
        "help": CliRunner().invoke(lorahub, ["search", "--help"]).output,
    },
    sys.stdout,
)
world.close()
"""


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("facet")
    root = Path(__file__).resolve().parents[2]
    command = [sys.executable, "-c", PROGRAM, str(folder)]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def test_the_search_finds_by_it(shown: dict[str, Any]) -> None:
    """An A and a B for each module: 1 layer of 1 module, 3 layers of 2."""
    assert shown["found"] == {"2": ["task/small"], "12": ["task/large"], "7": []}
    assert shown["counted"] == [{"value": "12", "count": 1}, {"value": "2", "count": 1}]


def test_the_api_describes_it_and_refuses_what_is_none(shown: dict[str, Any]) -> None:
    assert shown["refused"] == 400
    (schema,) = shown["openapi"]
    assert schema["items"]["type"] == "integer"


def test_the_page_lists_it(shown: dict[str, Any]) -> None:
    assert "Number of tensors" in shown["page"]
    assert "task/large" in shown["page"]
    assert "task/small" not in shown["page"]


def test_the_command_line_takes_it(shown: dict[str, Any]) -> None:
    assert "--tensors INTEGER" in shown["help"]
    assert "How many tensors it has." in shown["help"]
