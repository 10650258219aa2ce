"""docs/formats.md says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hub import manifest
from hub.adapter import config as lora_config
from hub.adapter.config_fields import COMPUTED, PLACEMENT, REFUSED, TRAINING
from hub.adapter.patterns import MAX_KEY_REPEATS
from hub.base.sketch import BLOCKS
from hub.formats import front_matter as card
from hub.formats import safetensors_header, strict_json
from hub.formats.safe_pattern import MAX_REPEATS

PAGE = (Path(__file__).parents[2] / "docs" / "formats.md").read_text()


def section(title):
    return re.split(r"\n## ", PAGE.partition(f"\n## {title}\n")[2])[0]


@pytest.mark.parametrize(
    ("start", "fields"),
    [("Computed", COMPUTED), ("Placement", PLACEMENT), ("Of training only", TRAINING), ("Refused", set(REFUSED))],
)
def test_every_field_is_listed_where_it_belongs(start, fields):
    item = next(item for item in section("Fields of adapter_config.json").split("\n- ")[0:] if start in item[:40])
    named = set(re.findall(r"`([a-z_]+)`", item))
    assert fields <= named
    if start != "Of training only":
        assert named == fields


@pytest.mark.parametrize(
    "limit",
    [
        lora_config.MAX_CONFIG_BYTES,
        lora_config.MAX_RANK,
        strict_json.MAX_DEPTH,
        safetensors_header.MAX_HEADER_BYTES,
        safetensors_header.MAX_TENSORS,
        safetensors_header.MAX_DIMENSIONS,
        safetensors_header.MAX_NAME_LENGTH,
        manifest.MAX_MANIFEST_BYTES,
        manifest.MAX_FILES,
        manifest.MAX_PATH_BYTES,
        card.MAX_FRONT_MATTER_BYTES,
        card.MAX_DEPTH,
    ],
)
def test_every_limit_is_the_real_one(limit):
    assert re.search(rf"(?<![\d,]){limit:,}(?![\d,])", section("Limits"))


def test_every_number_in_the_table_of_limits_is_a_limit():
    named = {int(number.replace(",", "")) for number in re.findall(r"(?<=[ |])[\d,]*\d(?= |\n)", section("Limits"))}
    modules = (lora_config, safetensors_header, manifest, card, strict_json)
    limits = {value for module in modules for name, value in vars(module).items() if name.startswith("MAX_")}
    assert named - {8785} <= limits


def test_the_repeats_that_patterns_may_have_are_the_real_ones():
    assert f"at most\n{MAX_REPEATS} without a bound, in a key at most {MAX_KEY_REPEATS}" in PAGE
    assert f"the number of blocks ({BLOCKS})" in PAGE


def test_the_manifest_is_drawn_as_in_its_module():
    drawn = re.findall(r'^ {4,}[{ ]"(\w+)": ', PAGE, re.MULTILINE)
    assert drawn == re.findall(r'^ {4,}[{ ]"(\w+)": ', manifest.__doc__, re.MULTILINE) != []
