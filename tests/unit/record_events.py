"""Records the events of a real round: `python tests/unit/record_events.py` writes tests/recorded/events.jsonl.

Real Ray, vLLM, PEFT and DeepSpeed with the tiny model, a judge over HTTP that is paid, a gate, and in it everything
that can go wrong without a second node: the budget is spent and raised, a worker is killed, a context is too long, the
store fails once and loses the end of a file, the judge fails at one answer. What depends on the machine (folder, host,
process) is named the same in every recording.
"""

import json
import os
import re
import signal
import socket
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from judge_server import JudgeReply, serving, truth

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.errors import BudgetSpent
from seal_ray.event_stream import encode_event
from seal_ray.events import Event, TrialDone
from seal_ray.loops.rounds import run_rounds
from seal_ray.loops.session import Session

ROOT = Path(__file__).parents[2]
TO = ROOT / "tests" / "recorded" / "events.jsonl"
CHANGES = {
    "run.rounds": 1,
    "run.coverage": 0.5,
    "domain.validation": 0.3,
    "domain.add_context": "false",
    "inner.max_length": 160,  # not every passage fits: trained on alone it fails
    "inner.extra_repeats": 1,
    "inner.wave": 2,
    "grading.grader": "cascade",
    "grading.judge_model": "m",
    "grading.judge_key_env": '""',
    "grading.judge_retries": 0,
    "grading.judge_price_in": 1000,
    "grading.judge_price_out": 1000,
    "grading.cascade_low": 0,
    "gate.mode": "auto",
    "gate.tasks": 2,
    "gate.edits": 1,
    "gate.tolerance": 100,
    "gate.min_gain": -100,
    "policy.validation": 0.4,
    "placement.max_workers": 1,
    "placement.samplers": 1,
    "placement.heartbeat": 1,
}


def configured(uri: str, judge: str, **more: Any) -> Config:
    changes = CHANGES | {"run.uri": uri, "grading.judge_url": judge} | more
    return config_file.load(str(ROOT / "jobs/tiny.yaml"), [f"{k}={v}" for k, v in changes.items()])


class Judge:
    """Right about every answer but the first that it is asked about: that one it never judges."""

    def __init__(self) -> None:
        self._refused = ""

    def say(self, body: dict[str, Any], _attempt: int) -> JudgeReply:
        asked = str(body["messages"])
        self._refused = self._refused or asked
        return (500, {}, b"{}") if asked == self._refused else truth(body)


class Trouble:
    """Makes each fault once, where the session asks whether to stop."""

    def __init__(self) -> None:
        self.session: Session | None = None
        self.trials, self.killed = 0, False

    def hear(self, event: Event) -> None:
        self.trials += isinstance(event, TrialDone)

    def make(self) -> bool:
        if self.session and not self.killed and self.trials >= 2:
            self.killed = self._kill(self.session)
        return False

    @staticmethod
    def _kill(session: Session) -> bool:
        import ray

        pool: Any = session.crew._pool
        busy = [m for m in pool._group.members.values() if m.job] if pool else []
        if busy:
            sign: Any = ray.get(pool._group._actors._actors[busy[0].name].ping.remote(), timeout=30)
            os.kill(sign.pid, signal.SIGKILL)
        return bool(busy)


class FailsOnce:
    """A backend that loses one connection. It stands in for a network."""

    def __init__(self, backend: Any) -> None:
        self._backend, self._failed = backend, False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def create(self, key: str, data: bytes) -> None:
        if not self._failed:
            self._failed = True
            raise ConnectionResetError("the connection was reset")
        self._backend.create(key, data)


def damage(run: Path) -> None:
    """Cut a segment of trials short, as a disk that was full may have left it."""
    segment = min((run / "rounds/0001/trials").iterdir())
    segment.write_bytes(segment.read_bytes()[:-9])


def main() -> None:
    os.chdir(ROOT)
    with tempfile.TemporaryDirectory() as folder, serving(Judge().say) as judge:
        uri = f"{folder}/run"
        told: list[Event] = []
        try:
            with Session(configured(uri, judge.url, **{"run.budget.judge_dollars": 0.8}), listeners=[told.append]) as s:
                run_rounds(s)
        except BudgetSpent as error:
            print(error)
        damage(Path(uri))
        trouble = Trouble()
        with Session(configured(uri, judge.url), stop=trouble.make, listeners=[told.append, trouble.hear]) as s:
            trouble.session = s
            s.ledger.store._backend = FailsOnce(s.ledger.store._backend)  # type: ignore[assignment]
            run_rounds(s)
        TO.write_text("".join(f"{_anywhere(line, folder)}\n" for line in map(_line, told)))
    print(f"{len(told)} events in {TO}")


def _line(event: Event) -> str:
    return json.dumps(encode_event(event), ensure_ascii=False)


def _anywhere(line: str, folder: str) -> str:
    line = line.replace(folder, "runs").replace(socket.gethostname(), "node")
    line = re.sub(r'"node": "[0-9a-f]{56}"', '"node": "node"', line)
    return re.sub(r'"log": "[^"]+"', '"log": "worker.err"', line)


if __name__ == "__main__":
    main()
