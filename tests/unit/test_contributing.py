"""CONTRIBUTING.md names files and functions: they are there, and the walk of an edit passes through every room."""

import ast
import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
ROOMS = {"cli", "loops", "domains", "fleet", "sampling", "trials", "inner", "grading", "policy", "storage"}


def names_in(file: Path) -> set[str]:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, kinds)}


def test_every_file_and_function_that_is_named_is_there() -> None:
    named = re.findall(r"`((?:seal_ray|tests|jobs|docker)/[\w/.]+)(?::(\w+))?`", TEXT)
    assert len(named) > 30
    for file, name in named:
        assert (ROOT / file).exists(), f"there is no {file}"
        assert not name or name in names_in(ROOT / file), f"{file} has no {name}"


def test_the_walk_of_an_edit_passes_through_every_room() -> None:
    walk = TEXT.split("### The walk of one edit")[1].split("###")[0]
    assert {part.split("/")[1] for part in re.findall(r"`(seal_ray/\w+/\w+\.py):", walk)} == ROOMS


def test_the_workflow_and_the_hooks_call_what_is_there() -> None:
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yaml").read_text())
    (command,) = [s["run"] for s in workflow["jobs"]["run"]["steps"] if "run" in s]
    assert (ROOT / command).stat().st_mode & 0o111
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]
    dev = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["dev"]
    for hook in hooks:
        assert hook["entry"].split()[0].removeprefix(".venv/bin/") in dev
