"""A run that is killed, again and again, with everything real and its ledger on S3: the same result in the end."""

import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import COMMAND, ROOT, environment
from s3_server import KEYS, make_bucket, serve

from seal_ray.config import StorageSection
from seal_ray.errors import SealError
from seal_ray.loops.history import Round, Run
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    with serve() as found, pytest.MonkeyPatch.context() as patch:
        for key, value in KEYS.items():
            patch.setenv(key, value)
        yield found


def bucket(endpoint: str) -> str:
    name = f"runs-{uuid.uuid4().hex[:10]}"
    make_bucket(endpoint, name)
    return f"s3://{name}"


def begin(uri: str, endpoint: str, *overrides: str) -> "subprocess.Popen[bytes]":
    words = ["run", "jobs/tiny.yaml", "--quiet"]
    for override in (f"run.uri={uri}/run", f"storage.endpoint={endpoint}", *overrides):
        words += ["--set", override]
    log = subprocess.DEVNULL
    return subprocess.Popen([COMMAND, *words], cwd=ROOT, env=environment(), stdout=log, stderr=log)


def look(uri: str, endpoint: str, number: int) -> Round | None:
    try:
        return Run(f"{uri}/run", StorageSection(endpoint=endpoint)).round(number)
    except SealError:
        return None


def result(found: Round) -> dict:
    return {
        "edits": sorted((e.task, e.slot, e.ids) for e in found.edits),
        "candidates": sorted(c.id for c in found.candidates),
        "chosen": sorted((c.task, c.edit) for c in found.choices),
    }


def rewards(found: Round) -> dict[str, float]:
    return {r["edit"]: r["value"]["mean"] for r in (found.rewards or {})["rewards"]}


KILLED_WHEN: list[tuple[str, Callable[[Round], bool]]] = [
    ("the first edits are there", lambda r: len(r.edits) > 0),
    ("some trials are there", lambda r: len(r.trials) >= 4),
    ("all trials are there", lambda r: len(r.trials) >= 21),
    ("the choice is made and the update runs", lambda r: bool(r.choices)),
    ("the update is in the ledger", lambda r: r.update is not None),
]


@pytest.mark.slow
def test_a_run_killed_five_times_ends_as_one_that_was_not(endpoint: str) -> None:
    undisturbed, killed = bucket(endpoint), bucket(endpoint)
    process = begin(undisturbed, endpoint, "run.rounds=1")
    assert process.wait() == 0
    for when, reached in KILLED_WHEN:
        process = begin(killed, endpoint, "run.rounds=1")
        while process.poll() is None:
            found = look(killed, endpoint, 1)
            if found and reached(found):
                break
            time.sleep(0.3)
        print(f"killed when {when}: {'already over' if process.poll() is not None else 'in time'}")
        process.send_signal(signal.SIGKILL)
        process.wait()
    process = begin(killed, endpoint, "run.rounds=1")
    assert process.wait() == 0
    one, other = look(undisturbed, endpoint, 1), look(killed, endpoint, 1)
    assert one and other
    assert result(one) == result(other)
    before, after = rewards(one), rewards(other)
    assert before.keys() == after.keys()
    for edit, value in before.items():
        assert value == pytest.approx(after[edit], abs=1e-3)
    assert not verify(Ledger(f"{killed}/run", StorageSection(endpoint=endpoint), read_only=True))


@pytest.mark.slow
def test_a_run_that_is_asked_to_stop_leaves_in_time_and_goes_on(tmp_path: Path) -> None:
    uri = str(tmp_path)

    def start() -> "subprocess.Popen[str]":
        words = ["run", "jobs/tiny.yaml", "--set", f"run.uri={uri}/run", "--set", "run.rounds=1"]
        return subprocess.Popen([COMMAND, *words], cwd=ROOT, env=environment(), stderr=subprocess.PIPE, text=True)

    process = start()
    while process.poll() is None:
        found = look(uri, "", 1)
        if found and found.trials:
            break
        time.sleep(0.1)
    asked = time.monotonic()
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=60)
    took = time.monotonic() - asked
    print(f"left after {took:.1f} s")
    assert process.returncode == 130, said
    assert "seal-ray run" in said or "same command" in said
    holder = Ledger(f"{uri}/run", read_only=True).holder()
    assert holder is None, "the run was not handed over"
    process = start()
    _, said = process.communicate()
    assert process.returncode == 0, said
