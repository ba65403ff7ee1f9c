"""A run as a driver makes it, with recorded trials in the place of models: for killing it at every store operation.

As a script: python ledger_round.py URI ENDPOINT LOG [KILL_AT before|after] drives the run to its end, or kills itself.
"""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from seal_ray.config import StorageSection
from seal_ray.events import RoundCommitted, RunEnded, RunStarted, TrialAgain
from seal_ray.records import (
    Answer,
    Candidate,
    Cost,
    Edit,
    Likelihood,
    Recipe,
    Repeats,
    Trial,
    Verdict,
    derive_seed,
    digest,
)
from seal_ray.storage.ledger import Ledger, RoundLedger
from seal_ray.storage.store import Store
from seal_ray.storage.verification import verify

TASKS, EDITS, REPEATS, ROUNDS = 3, 2, 2, 2


def settings(endpoint: str = "", **changes: Any) -> StorageSection:
    # small segments, so that a short round has many; a short patience, so that a failing store shows soon
    return StorageSection(endpoint=endpoint, segment_bytes=1000, segment_seconds=0.05, **changes)


def drive(uri: str, storage: StorageSection, log: str, rounds: int = ROUNDS, sink: Any = None) -> Ledger:
    """Begin the run or go on with it, to its end."""
    ledger = Ledger(uri, storage, sink=sink)
    if not ledger.exists():
        ledger.create({"run": {"rounds": rounds}}, {"seal-ray": "test"}, 7)
    epoch = ledger.acquire(f"test:{os.getpid()}")
    ledger.events(RunStarted(uri, 0, 1, epoch, False, time=time.time()))
    for number in range(ledger.latest() + 1, rounds + 1):
        a_round(ledger, number, log)
    ledger.events(RunEnded("done", time=time.time()))
    ledger.close()
    return ledger


def a_round(ledger: Ledger, number: int, log: str) -> None:
    part = ledger.round(number)
    version = f"v{number - 1}"
    if not part.get("tasks.json"):
        tasks = [{"id": f"task-{number}-{t}", "data": {"context": f"passage {t} " * 20}} for t in range(TASKS)]
        part.put("tasks.json", {"tasks": tasks, "version": version})
    tasks = [t["id"] for t in (part.get("tasks.json") or {})["tasks"]]
    explore(ledger, part, tasks, version, 0, log)
    asked = part.records("repeats")
    for task in tasks[:1]:
        request = Repeats(f"{task}-more", task, version, (edit_id(task, 0),), REPEATS, 1, "the choice is open")
        if request.id not in asked:
            part.append("repeats", request)
            part.flush()
    explore(ledger, part, tasks, version, 1, log)
    if not part.get("rewards.json"):
        part.put("rewards.json", {"rewards": [{"task": t, "value": 0.5} for t in tasks]})
    if not part.get("selection.json"):
        part.put("selection.json", {"choices": [{"task": t, "edit": edit_id(t, 0)} for t in tasks]})
    if not part.get("update.json"):
        with tempfile.TemporaryDirectory() as folder:
            Path(folder, "adapter.safetensors").write_bytes(digest([version]).encode() * 50)
            Path(folder, "log.json").write_text("{}")
            part.put_dir("version", folder)
        part.put("update.json", {"version": f"v{number}"})
    if not part.get("gate.json"):
        with tempfile.TemporaryDirectory() as folder:
            part.get_dir("version", folder)
        part.put("gate.json", {"decision": "accept"})
    ledger.events(RoundCommitted(part.commit({"round": number, "version": f"v{number}"}), number, "accept", 0.0))


def edit_id(task: str, slot: int) -> str:
    return digest([task, slot])[:16]


def explore(ledger: Ledger, part: RoundLedger, tasks: list[str], version: str, more: int, log: str) -> None:
    edits, trials, verdicts = part.records("edits"), part.records("trials"), part.records("verdicts")
    for task in tasks:
        for slot in range(EDITS):
            name = edit_id(task, slot)
            if name not in edits:
                part.append(
                    "edits", Edit(name, task, slot, version, slot, (1, 2), (3,), (-0.5,), "a text " * 9, "stop")
                )
            for repeat in range(REPEATS + (more if slot == 0 and task == tasks[0] else 0)):
                candidate = digest([name, repeat])[:16]
                part.append("candidates", Candidate(candidate, task, "edit", name, slot, repeat, repeat, Recipe()))
                if candidate not in trials:
                    if more == 0 or repeat >= REPEATS:
                        note(log, candidate)
                    trial = recorded_trial(candidate, task)
                    part.append("trials", trial)
                    ledger.events(TrialAgain(candidate, "w"))
                ledger.check()
                verdict = Verdict(candidate, "q0", "lexical", True, 1.0)
                if verdict.id not in verdicts:
                    part.append("verdicts", verdict)
    part.flush()


def recorded_trial(candidate: str, task: str) -> Trial:
    luck = derive_seed(candidate) / 2**31
    answers = (Answer("q0", f" answer {luck:.3f}", 4, "stop", -luck),)
    return Trial(candidate, task, (2.0, 1.0 + luck), answers, (Likelihood("q0", 0, -luck, 3),), Cost(1.0), "worker")


def note(log: str, candidate: str) -> None:
    """Write down, in a way that survives SIGKILL, that a candidate was run."""
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, f"{candidate}\n".encode())
    os.close(descriptor)


def count_operations(kill_at: int = 0, when: str = "before") -> Callable[[], int]:
    """Count every operation on a store in this process, and die by SIGKILL at the one that is named."""
    lock, count = threading.Lock(), 0
    real = Store._do

    def counted(self: Store, operation: str, path: str, call: Any, **nothing: Any) -> Any:
        nonlocal count
        with lock:
            count += 1
            mine = count
        if mine == kill_at and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(self, operation, path, call, **nothing)
        if mine == kill_at and when == "after":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Store._do = counted
    return lambda: count


def content(uri: str, storage: StorageSection) -> list[dict[str, Any]]:
    """The manifests without what may differ: epochs and the segments' boundaries."""
    ledger = Ledger(uri, storage, read_only=True)
    out = []
    for number in ledger.rounds():
        manifest = dict(ledger.manifest(number) or {})
        kept = [p for p in manifest.pop("parts") if not p["path"].endswith(".jsonl")]
        out.append({k: v for k, v in manifest.items() if k != "epoch"} | {"kept": len(kept)})
    return out


def recorded(uri: str, storage: StorageSection) -> set[str]:
    ledger = Ledger(uri, storage, read_only=True)
    return {t for n in ledger.rounds() for t in ledger.round(n).records("trials")}


def runs(log: str) -> list[str]:
    return Path(log).read_text().split() if os.path.exists(log) else []


def forked(work: Callable[[], object]) -> int:
    """Run in a child of its own and come back with how it ended. For local disks: no store's thread may be on."""
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except BaseException:
            import traceback

            traceback.print_exc()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def killed_everywhere(folder: Path, when: str, step: int) -> tuple[int, int]:
    """Kill a run on a local disk at every `step`-th operation, go on with it, and compare. Operations and kills."""
    storage = settings()
    whole, log = str(folder / "whole"), str(folder / "whole.log")
    counts = folder / "count"

    def count() -> None:
        found = count_operations()
        drive(whole, storage, log)
        counts.write_text(str(found()))

    assert forked(count) == 0
    operations, kills = int(counts.read_text()), 0
    expected = content(whole, storage)
    assert [m["round"] for m in expected] == [1, 2]
    for kill_at in range(1, operations + 1, step):
        uri, log = str(folder / f"run-{when}-{kill_at}"), str(folder / "log")

        def die(kill_at: int = kill_at, uri: str = uri, log: str = log) -> None:
            count_operations(kill_at, when)
            drive(uri, storage, log)

        ended = forked(die)
        assert ended in (0, -signal.SIGKILL), ended
        kills += ended == -signal.SIGKILL
        safe, before = recorded(uri, storage), runs(log)
        assert forked(lambda uri=uri, log=log: drive(uri, storage, log)) == 0, (when, kill_at)
        again = runs(log)[len(before) :]
        assert not safe & set(again), f"killed {when} operation {kill_at}: recorded trials were run again"
        assert content(uri, storage) == expected, f"killed {when} operation {kill_at}"
        found = [p for p in verify(Ledger(uri, storage, read_only=True)) if p.grave]
        assert not found, (when, kill_at, found)
        shutil.rmtree(uri)
        os.unlink(log)
    return operations, kills


if __name__ == "__main__":
    place, url, where = sys.argv[1:4]
    if len(sys.argv) > 4:
        count_operations(int(sys.argv[4]), sys.argv[5])
    drive(place, settings(url, lease=float(os.environ.get("TEST_LEASE", "60"))), where)
