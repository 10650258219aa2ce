"""The core stands on the standard library: it imports fast, and everything heavy only when it is used."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import hub

ROOT = Path(hub.__file__).parent
CORE = [
    "adapter_content", "adapter_diff", "adapter_files", "adapter_keys", "architectures", "atomic_files",
    "base_checkpoint", "base_spec", "blueprint", "card", "compat", "compat_shapes", "config_fields", "deltas",
    "early_sync", "errors", "file_rules", "lora_config", "manifest", "module_patterns", "nf4", "parameters",
    "provenance", "refs", "safe_pattern", "safetensors_header", "settings", "sketch", "strict_json", "targets",
    "weight_scan",
]  # fmt: skip
HEAVY = {
    "torch",
    "numpy",
    "transformers",
    "peft",
    "bitsandbytes",
    "yaml",
    "httpx2",
    "huggingface_hub",
    "sqlalchemy",
    "flask",
}


def test_importing_the_core_imports_nothing_heavy():
    code = f"import sys, {', '.join(f'hub.{name}' for name in CORE)}; print(sorted(set(sys.modules) & {HEAVY!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", CORE)
def test_a_core_module_imports_the_standard_library_and_the_core(name):
    tree = ast.parse((ROOT / f"{name}.py").read_text())
    names = []
    for node in tree.body:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" if node.module == "hub" else node.module for alias in node.names]
    core = {f"hub.{module}" for module in CORE}
    foreign = [
        n for n in names if n.split(".")[0] not in sys.stdlib_module_names and n not in core and n != "__future__"
    ]
    assert foreign == []
