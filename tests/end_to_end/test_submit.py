"""A run as a job of a real Ray head with token authentication: submitted, followed, stopped in the middle, resumed."""

import json
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from command import ROOT
from ray_head import BIN, Head, asks, member
from ray_head import head as start_head

from seal_ray.errors import SealError
from seal_ray.events import EditsSampled, RunStarted, TrialDone
from seal_ray.loops.history import Round, Run
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.verification import verify

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def head() -> Iterator[Head]:
    with start_head() as found:
        yield found


def call(name: str, *words: str, env: dict[str, str], within: float = 400) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(BIN / name), *words], cwd=ROOT, env=env, capture_output=True, text=True, timeout=within, check=False
    )


def look(uri: str, number: int) -> Round | None:
    try:
        return Run(uri).round(number)
    except SealError:
        return None


def job_status(head: Head, job: str) -> str:
    import urllib.request

    request = urllib.request.Request(
        f"{head.jobs}/api/jobs/{job}", headers={"Authorization": f"Bearer {head.token.read_text()}"}
    )
    with urllib.request.urlopen(request, timeout=30) as reply:
        return json.load(reply)["status"]


def wait(done: Callable[[], bool], seconds: float, why: str) -> None:
    until = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < until, why
        time.sleep(0.2)


def test_a_job_is_submitted_and_followed_to_its_end(head: Head, tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    words = ["jobs/tiny.yaml", "--set", f"run.uri={uri}", "--set", "placement.address=auto", "--set", "run.rounds=1"]
    done = call("ray", "job", "submit", "--working-dir", ".", "--", "seal-ray", "run", *words, env=head.environment())
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"the run is in {uri}" in done.stdout  # its output came back while it was followed
    found = Run(uri)
    assert found.latest == 1 and not verify(Ledger(uri, read_only=True))
    assert head.token.read_text() not in done.stdout + done.stderr
    workers = {t.worker for t in found.round(1).trials}
    assert workers, "no worker of the cluster has tried anything"


def test_a_job_that_is_stopped_in_the_middle_is_resumed_and_nothing_is_done_twice(head: Head, tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    env = head.environment()

    def submit() -> dict[str, str]:
        overrides = ["--set", f"run.uri={uri}", "--set", "storage.shared=true", "--set", "run.rounds=1"]
        # two trials at a time, each of some length: when the first is there, most of the round is still to come
        overrides += ["--set", "inner.wave=2", "--set", "inner.repeats=3", "--set", "inner.epochs=60"]
        done = call("seal-ray", "submit", "jobs/tiny.yaml", *overrides, "--json", env=env)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def tried() -> bool:
        """An edit, that is: baselines need none, and may be there before the first is."""
        seen = look(uri, 1)
        edits = {c.id for c in seen.candidates if c.kind == "edit"} if seen else set[str]()
        return bool(seen and any(t.candidate in edits for t in seen.trials))

    first = submit()
    assert {"follow", "status", "stop"} <= first.keys()
    wait(tried, 300, "the first job has tried nothing")
    stopped = call("ray", *first["stop"].split()[1:], env=env)
    assert stopped.returncode == 0, stopped.stdout + stopped.stderr
    wait(lambda: job_status(head, first["job"]) == "STOPPED", 60, "the job did not stop")
    assert Ledger(uri, read_only=True).holder() is None, "the run was not handed over"
    before = look(uri, 1)
    assert before and not before.committed and before.edits

    second = submit()
    wait(lambda: job_status(head, second["job"]) in {"SUCCEEDED", "FAILED"}, 400, "the second job did not end")
    logs = call("ray", "job", "logs", second["job"], env=env)
    assert job_status(head, second["job"]) == "SUCCEEDED", logs.stdout
    after = Run(uri)
    round_ = after.round(1)
    assert after.latest == 1 and not verify(Ledger(uri, read_only=True))
    started = [e for e in after.events() if isinstance(e, RunStarted)]
    assert [s.resumed for s in started] == [False, True]
    assert [s.epoch for s in started] == [1, 2]
    # what was there stays as it is, and neither edits nor trials are made again
    assert {(e.id, e.text) for e in before.edits} <= {(e.id, e.text) for e in round_.edits}
    sampled = Counter(e.task for e in after.events() if isinstance(e, EditsSampled))
    assert set(sampled) == {t.id for t in round_.tasks} and set(sampled.values()) == {1}
    again = Counter(e.candidate for e in after.events() if isinstance(e, TrialDone))
    assert set(again) == {c.id for c in round_.candidates} and set(again.values()) == {1}


def test_a_call_without_the_token_or_with_another_is_refused(head: Head, tmp_path: Path) -> None:
    assert asks(head.jobs) == 401
    assert asks(head.jobs, "0" * 64) == 403
    assert asks(head.jobs, head.token.read_text()) == 200
    other = tmp_path / "other"
    other.write_text("0" * 64)
    nobody = member(HOME=str(tmp_path))
    stranger = member(HOME=str(tmp_path), RAY_AUTH_TOKEN_PATH=str(other))
    for env in (nobody, stranger):
        listed = call("ray", "job", "list", "--address", head.jobs, env=env)
        assert listed.returncode != 0 and "oken" in listed.stderr + listed.stdout
        words = ["jobs/tiny.yaml", "--set", f"run.uri={tmp_path}/run", "--set", "storage.shared=true"]
        refused = call("seal-ray", "submit", *words, "--address", head.jobs, env=env)
        assert refused.returncode == 3, refused.stdout
        assert "does not let us in" in refused.stderr and "RAY_AUTH_TOKEN_PATH" in refused.stderr
        assert "Traceback" not in refused.stderr
        refused = call("seal-ray", "run", *words, "--set", f"placement.address={head.address}", env=env)
        assert refused.returncode == 3 and "RAY_AUTH_TOKEN_PATH" in refused.stderr, refused.stderr
    assert not (tmp_path / "run").exists()
    seen = call("seal-ray", "doctor", *words, "--address", head.address, "--json", env=nobody)
    checks = {c["check"]: c for c in json.loads(seen.stdout)["checks"]}
    assert seen.returncode == 3 and "RAY_AUTH_TOKEN_PATH" in checks["cluster"]["hint"]
    assert {checks[name]["state"] for name in ("orphans", "collective", "lora", "disks")} == {"skipped"}
