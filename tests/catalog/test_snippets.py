"""Snippets: they say what is on screen, and a base's name can't put a command into them."""

from __future__ import annotations

import ast
import shlex
from dataclasses import replace

import pytest

from hub.manifest import FileEntry
from hub.refs import AdapterRef
from hub.web.catalog.snippets import Snippet, SnippetSource, base_argument, snippets, vllm_rank

SOURCE = SnippetSource(
    ref=AdapterRef.parse("task/qa@v3"),
    endpoint="http://127.0.0.1:9000",
    base_id="org/base-7B",
    rank=12,
    method="lora",
    private=False,
    weights=FileEntry("adapter_model.safetensors", 10, "ab" * 32),
)


def by_key(source: SnippetSource) -> dict[str, Snippet]:
    return {snippet.key: snippet for snippet in snippets(source)}


def test_every_snippet_names_the_version_on_screen() -> None:
    for snippet in snippets(SOURCE):
        assert "v3" in snippet.code, snippet.key
        assert "task/qa" in snippet.code, snippet.key


def modules_and_model(code: str) -> tuple[set[str], str]:
    """What a snippet imports from, and the one call that makes its `model`."""
    statements = ast.parse(code).body
    modules = {alias.name for one in statements if isinstance(one, ast.Import) for alias in one.names}
    modules |= {str(one.module) for one in statements if isinstance(one, ast.ImportFrom)}
    made = [one for one in statements if isinstance(one, ast.Assign) and ast.unparse(one.targets[0]) == "model"]
    (model,) = (ast.unparse(one.value) for one in made)
    return modules, model


@pytest.mark.parametrize("private", [False, True])
def test_python_snippets_are_python(private: bool) -> None:
    code = by_key(replace(SOURCE, private=private))
    ours = "hub.load('org/base-7B', 'task/qa@v3', registry='http://127.0.0.1:9000')"
    assert modules_and_model(code["python"].code) == ({"hub"}, ours)
    pefts = "PeftModel.from_pretrained(base, 'task/qa', revision='v3')"
    assert modules_and_model(code["peft"].code) == ({"os", "peft", "transformers"}, pefts)


def test_peft_sets_its_endpoint_before_anything_of_hugging_face_is_imported() -> None:
    lines = by_key(SOURCE)["peft"].code.splitlines()
    endpoint = next(index for index, line in enumerate(lines) if "HF_ENDPOINT" in line)
    imports = [index for index, line in enumerate(lines) if line.startswith("from ")]
    assert endpoint < min(imports)


def test_curl_checks_the_hash_of_what_it_fetched() -> None:
    code = by_key(SOURCE)["curl"].code
    assert f'echo "{"ab" * 32}  adapter_model.safetensors" | sha256sum -c' in code


def test_a_private_adapter_needs_a_token_that_is_never_written_out() -> None:
    private = by_key(replace(SOURCE, private=True))
    assert "$LORAHUB_TOKEN" in private["curl"].code
    assert "lorahub login" in private["cli"].code
    assert all("lhub_" not in snippet.code for snippet in private.values())


def test_default_address_is_left_out() -> None:
    code = by_key(replace(SOURCE, endpoint="http://127.0.0.1:8750"))
    assert "LORAHUB_ENDPOINT" not in code["cli"].code
    assert "registry=" not in code["python"].code


@pytest.mark.parametrize(
    ("rank", "limit"), [(1, 8), (8, 8), (9, 16), (64, 64), (65, 128), (300, 320), (512, 512), (513, None)]
)
def test_vllm_gets_the_smallest_limit_that_holds_the_rank(rank: int, limit: int | None) -> None:
    assert vllm_rank(rank) == limit


def test_vllm_is_not_offered_what_it_refuses() -> None:
    for refused in (
        replace(SOURCE, method="dora"),
        replace(SOURCE, has_modules_to_save=True),
        replace(SOURCE, rank=600),
    ):
        assert by_key(refused)["vllm"].code.startswith("#")


HOSTILE_BASES = [
    "org/base; rm -rf ~",
    "$(id)",
    "`id`",
    'x" && id #',
    "a\nid",
    "../../etc",
    "-o/tmp/x",
    "a/b/c/d",
    "org/ba\u202ese",
    "",
    None,
    "x" * 200,
]


@pytest.mark.parametrize("base", HOSTILE_BASES)
def test_a_base_that_is_no_plain_id_becomes_a_placeholder(base: str | None) -> None:
    assert base_argument(base) == "./base-model"
    for snippet in snippets(replace(SOURCE, base_id=base)):
        if snippet.language == "bash":
            assert "rm" not in shlex.split(snippet.code, comments=True)
        if base and len(base) > 1:
            assert base not in snippet.code
