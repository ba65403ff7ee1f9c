"""Runs one program in a sandbox and brings back what became of its cases."""

import dataclasses
import json
import os
import secrets
import signal
import subprocess
import time

from seal_ray.errors import NoIsolation
from seal_ray.records import Failure
from seal_ray.sandbox.inside.namespaces import REFUSED
from seal_ray.sandbox.isolation import Isolation
from seal_ray.sandbox.program import CaseResult, Program, ProgramLimits, ProgramResult

GRACE = 10.0  # seconds that a sandbox may take beyond its total


def run_program(program: Program, limits: ProgramLimits, isolation: Isolation) -> ProgramResult:
    """What became of each case. A failure is the sandbox's or the tests'; the program's faults are its cases'."""
    began = time.monotonic()
    nonce = secrets.token_hex(16)
    spec = {
        "nonce": nonce,
        "host": isolation.host(),
        "limits": dataclasses.asdict(limits),
        **dataclasses.asdict(program),
    }
    process = subprocess.Popen(
        isolation.command(limits.disk),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd="/",
        env={"PATH": os.defpath} if isolation.kind == "bubblewrap" else {},
        user=isolation.user,
        group=isolation.user,
        extra_groups=None if isolation.user is None else (),
        start_new_session=True,
    )
    late = False
    try:
        said, told = process.communicate(json.dumps(spec).encode(), timeout=limits.total + limits.seconds + GRACE)
    except subprocess.TimeoutExpired:
        late, said, told = True, b"", b""
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    seconds = time.monotonic() - began
    if process.returncode == REFUSED:
        raise NoIsolation(f"{isolation.kind}: {told.decode(errors='replace').strip()[-300:]}")
    if late:
        return ProgramResult(failure=Failure("tests_hang", "the tests do not end by themselves"), seconds=seconds)
    cases = _understood(said, nonce, len(program.cases))
    if cases is None:
        why = told.decode(errors="replace").strip()[-300:] or f"it ended with {process.returncode}"
        return ProgramResult(failure=Failure("sandbox", f"the sandbox gave no result: {why}", "infra"), seconds=seconds)
    return ProgramResult(cases, seconds=seconds)


def _understood(said: bytes, nonce: str, count: int) -> tuple[CaseResult, ...] | None:
    try:
        outcome = json.loads(said)
        cases = tuple(CaseResult(kind, str(message)) for kind, message in outcome["cases"])
    except (ValueError, TypeError, KeyError):
        return None
    return cases if outcome["nonce"] == nonce and len(cases) == count else None
