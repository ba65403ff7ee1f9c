"""Runs a program in a sandbox as whoever the tests run as, or as an ordinary user where they run as root."""

import dataclasses
import json
import os
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

from seal_ray.sandbox import CaseResult, Isolation, Program, ProgramLimits, ProgramResult, run_program
from seal_ray.sandbox.choice import problem_with

ROOT = Path(__file__).parents[2]
NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
CHECK = """
import os, sys, seal_ray.sandbox
assert sys.version_info >= (3, 11) and os.access(sys.executable, os.X_OK)  # setpriv starts what its user may not
"""
CODE = """
import json, sys
from seal_ray.sandbox import Isolation, Program, ProgramLimits, run_program
asked = json.load(sys.stdin)
program = Program(**{**asked["program"], "cases": tuple(asked["program"]["cases"])})
done = run_program(program, ProgramLimits(**asked["limits"]), Isolation(asked["kind"]))
print(json.dumps([[case.kind, case.message] for case in done.cases] if not done.failure else done.failure.message))
"""


@cache
def python_of_nobody() -> str:
    """An interpreter that an ordinary user may start; root's own often lies in root's home."""
    own = Isolation("namespaces").python
    for python in (own, *(p for name in ("python3.11", "python3.12", "python3") if (p := f"/usr/bin/{name}"))):
        words = [*NOBODY, python, "-c", CHECK]
        done = subprocess.run(words, env={"PYTHONPATH": str(ROOT)}, cwd="/", capture_output=True, check=False)
        if done.returncode == 0:
            return python
    return ""


def ready(kind: str, who: str) -> None:
    """Skips what this machine can't show, and says why."""
    if kind == "bubblewrap" and not shutil.which("bwrap"):
        pytest.skip("bubblewrap is not installed")
    if who == "nobody" and os.geteuid() != 0:
        pytest.skip("the tests run as an ordinary user already")
    if who == "nobody" and not python_of_nobody():
        pytest.skip("an ordinary user can't read any Python of 3.11 or newer, or not this package")
    if who == "self" and (problem := problem_with(kind)):  # pyright: ignore[reportArgumentType]
        pytest.skip(f"{kind}: {problem}")


def examine(program: Program, limits: ProgramLimits, kind: str, who: str) -> ProgramResult:
    if who == "self":
        return run_program(program, limits, Isolation(kind))  # pyright: ignore[reportArgumentType]
    asked = {"program": dataclasses.asdict(program), "limits": dataclasses.asdict(limits), "kind": kind}
    words = [*NOBODY, python_of_nobody(), "-c", CODE]
    path = os.environ.get("PATH", "")
    done = subprocess.run(
        words,
        input=json.dumps(asked),
        env={**os.environ, "PYTHONPATH": str(ROOT), "PATH": path},
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert isinstance(said, list), said
    return ProgramResult(tuple(CaseResult(*case) for case in said))
