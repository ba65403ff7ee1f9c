"""How much of a large fleet's time is work: the real pool with simulated workers, many to one asynchronous actor.

    python jobs/bench_fleet.py --workers 64 --scale 4
    python jobs/bench_fleet.py --workers 256 --explore

Each candidate "takes" 0.5 to 5 seconds, by its number of texts; a simulated worker sleeps that long (divided by
--scale) instead of computing. With --explore the candidates come from a real exploration: tokenised, recorded in a
ledger on disk, graded. What is printed: the share of the workers' time that was work, the driver's time per
candidate, the driver's memory at the start, half-way and at the end.
"""

import argparse
import asyncio
import json
import random
import resource
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ray

from seal_ray.config import Config, PlacementSection
from seal_ray.events import Event, WaveDone
from seal_ray.fleet import cluster
from seal_ray.fleet.actor_health import Sign
from seal_ray.fleet.actors import RayActors
from seal_ray.fleet.pool import Pool
from seal_ray.fleet.wave_messages import WaveLease
from seal_ray.records import Answer, Ask, Attempt, Candidate, Edit, Example, Likelihood, Recipe, Trial, Version

VERSION = Version(0, "0" * 64, "base")
SHORTEST, LONGEST = 0.5, 5.0  # seconds of a candidate
MOST_TEXTS = 30
WORDS = ("river", "harbour", "company", "storm", "engine", "sister", "captain", "bridge", "winter", "letter")


class Hive:
    """Many simulated workers in one process."""

    def __init__(self, scale: float) -> None:
        self.scale = scale
        self.worked = 0.0
        self.versions: dict[str, str] = {}
        self.leases: dict[str, int | None] = {}

    async def load_version(self, worker: str, version: Version, files: Any) -> str:
        self.versions[worker] = version.digest
        return version.digest

    async def try_wave(self, worker: str, lease: WaveLease) -> list[Trial]:
        seconds = sum(map(seconds_of, lease.attempts)) / self.scale
        self.leases[worker] = lease.id
        await asyncio.sleep(seconds)
        self.leases[worker] = None
        self.worked += seconds
        return [trial_of(worker, attempt) for attempt in lease.attempts]

    async def ping(self, worker: str) -> Sign:
        return Sign(self.versions.get(worker, ""), self.leases.get(worker), node="hive")

    async def stacks(self, worker: str) -> str:
        return "asleep"

    async def total(self) -> float:
        return self.worked


def seconds_of(attempt: Attempt) -> float:
    """Half a second to five, by the number of texts; the same for the same candidate, and never quite as estimated."""
    chance = random.Random(attempt.candidate.id)
    share = min(1.0, len(attempt.examples) / MOST_TEXTS)
    return min(LONGEST, max(SHORTEST, (SHORTEST + share * (LONGEST - SHORTEST)) * chance.uniform(0.8, 1.2)))


def trial_of(worker: str, attempt: Attempt) -> Trial:
    return Trial(
        attempt.candidate.id,
        attempt.candidate.task,
        losses=(1.0,) * attempt.steps,
        answers=tuple(Answer(a.question, "an answer", 4, "stop", -3.0) for a in attempt.asks),
        likelihoods=tuple(Likelihood(a.question, 0, -3.0, 4) for a in attempt.asks),
        worker=worker,
    )


class Seat:
    """One worker's place in a hive, with the face of an actor."""

    def __init__(self, hive: Any, name: str) -> None:
        self._hive, self._name = hive, name

    def __getattr__(self, method: str) -> Any:
        call = getattr(self._hive, method)
        name = self._name

        class Bound:
            remote = staticmethod(lambda *args: call.remote(name, *args))

        return Bound


class Seats:
    """The holder of simulated workers: there is room for so many, whatever the machine has."""

    def __init__(self, workers: int) -> None:
        self._free = workers

    def options(self, role: str, name: str) -> dict[str, Any]:
        return {}

    def want(self, role: str, count: int) -> int:
        return self._free

    def too_many(self, role: str) -> int:
        return 0

    def missing(self, role: str) -> str:
        return "seats"

    def hold(self, role: str, name: str, actor: Any) -> None:
        self._free -= 1

    def placed(self, role: str, name: str, node: str, gpus: tuple[str, ...] = ()) -> None:
        return None

    def drop(self, role: str, name: str) -> None:
        self._free += 1


class HiveActors(RayActors):
    """Simulated workers are reached as real ones are, but killing one must not take its hive along."""

    def kill(self, name: str) -> None:
        if self._actors.pop(name, None) is not None:
            self._holder.drop(self.role, name)

    def leaving(self) -> dict[str, str]:
        return {}


def candidates(count: int, seed: int) -> Any:
    """Attempts as large as real ones: 5 edits a task and 3 repeats, texts of 46 tokens, five questions."""
    chance = random.Random(seed)
    examples: tuple[Example, ...] = ()
    asks = tuple(Ask(f"q{i}", tuple(range(100, 130)), (tuple(range(5)),), 64) for i in range(5))
    for number in range(count):
        task, slot, repeat = number // 15, number % 15 // 3, number % 3
        if number % 3 == 0:
            examples = tuple(
                Example(tuple(chance.randrange(50_000) for _ in range(46)), (True,) * 46)
                for _ in range(chance.randint(1, MOST_TEXTS))
            )
        candidate = Candidate(
            f"{number:032x}", f"task-{task:05d}", "edit", f"e{task}-{slot}", slot, repeat, number, Recipe(epochs=10)
        )
        yield Attempt(candidate, examples, asks)


def try_all(pool: Pool, count: int, seed: int, at: Any) -> None:
    """The loop of a driver that does nothing else."""
    source = candidates(count, seed)
    done, left = 0, True
    while done < count:
        room = pool.room()
        batch = [a for _, a in zip(range(room), source, strict=False)] if left else []
        if batch:
            pool.submit(batch)
        elif left and room:
            left = False
            pool.flush()
        done += len(pool.poll(0.1))
        at(done)


def some_lines(count: int, chance: random.Random) -> str:
    return "\n".join(" ".join(chance.choice(WORDS) for _ in range(12)) + f" {chance.random()}" for _ in range(count))


def write_passages(file: Path, count: int, chance: random.Random) -> None:
    data = [
        {
            "title": f"Title {n}",
            "context": some_lines(4, chance),
            "questions": [{"question": f"What is {n} {q}?", "answer": chance.choice(WORDS)} for q in range(5)],
        }
        for n in range(count)
    ]
    file.write_text(json.dumps(data))


def exploration_of(pool: Pool, count: int, seed: int, at: Any, folder: Path) -> Any:
    """A real exploration over given edits in a real session, but with this pool for a crew, ready to go."""
    from seal_ray.loops.exploration import Exploration
    from seal_ray.loops.explore import drive
    from seal_ray.loops.exploring.plan import Plan
    from seal_ray.loops.phases import Phases
    from seal_ray.loops.session import Session

    chance = random.Random(seed)
    write_passages(folder / "data.json", -(-count // 16), chance)  # 5 edits with 3 repeats each, and the baseline
    config = Config.model_validate(
        {
            "run": {"uri": str(folder / "run")},
            "model": {"name": "builtin:tiny"},
            "domain": {"name": "knowledge", "data": str(folder / "data.json"), "validation": 0, "test": 0},
            "observe": {"progress": "quiet", "ray_metrics": False},
        }
    )
    crew: Any = SimpleNamespace(release=lambda *roles: None, close=lambda: None, gpu_hours=lambda: 0.0)
    session = Session(config, hire=lambda *_: crew)
    found = list(session.domain.tasks("train"))
    edits = []
    for task in found:
        for slot in range(5):
            written = some_lines(chance.randint(1, MOST_TEXTS - 6), chance)
            edits.append(
                Edit(f"{task.id}-{slot}", task.id, slot, VERSION.digest, 0, (), (), (), written, "stop", written)
            )
    done = [0]

    def tick() -> None:
        at(done[0])

    class Counting:
        """The pool, counting what it hands out."""

        submit, room, flush = pool.submit, pool.room, pool.flush

        @staticmethod
        def poll(timeout: float) -> list[Trial]:
            trials = pool.poll(timeout)
            done[0] += len(trials)
            return trials

    plan = Plan(tuple(found), VERSION, 5, 3, context_arm=False, salt=1, given=tuple(edits))

    def go() -> None:
        part, phases = session.open_round(1), Phases(session.tell, lambda phase: 0)
        drive(Exploration(session, part, plan), None, Counting, tick, phases)  # type: ignore[arg-type]

    return go


def memory_mb() -> float:
    """What this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def main() -> int:
    args = parse()
    cluster.connect(PlacementSection(address="local"))
    remote: Any = ray.remote
    hives = [remote(num_cpus=0, max_concurrency=1000)(Hive).remote(args.scale) for _ in range(args.hives)]
    made = iter(range(10**9))
    actors = HiveActors("worker", Seats(args.workers), lambda name, _: Seat(hives[next(made) % len(hives)], name))
    ray.get([h.total.remote() for h in hives])  # their processes are up before the clock starts
    waves: list[float] = []

    def sink(event: Event) -> None:
        if isinstance(event, WaveDone):
            waves.append(event.candidates)

    section = PlacementSection(max_workers=args.workers, min_workers=1, window=args.window)
    pool = Pool(actors, section, sink, wave=args.wave)
    memory: dict[str, float] = {}

    def at(done: int) -> None:
        for name, share in (("a tenth", 0.1), ("half", 0.5), ("nine tenths", 0.9)):
            if name not in memory and done >= share * args.candidates:
                memory[name] = memory_mb()

    with tempfile.TemporaryDirectory() as folder:
        go: Any = partial(try_all, pool, args.candidates, args.seed, at)
        if args.explore:
            go = exploration_of(pool, args.candidates, args.seed, at, Path(folder))
        began, thread, process = time.monotonic(), time.thread_time(), time.process_time()
        pool.version(VERSION)
        go()
    seconds = time.monotonic() - began
    thread, process = time.thread_time() - thread, time.process_time() - process
    worked = sum(ray.get([h.total.remote() for h in hives]))
    found = {
        "workers": args.workers,
        "candidates": args.candidates,
        "scale": args.scale,
        "waves": len(waves),
        "seconds": round(seconds, 1),
        "work_share": round(worked / (seconds * args.workers), 4),
        "driver_ms_per_candidate": round(1000 * thread / args.candidates, 3),
        "driver_process_ms_per_candidate": round(1000 * process / args.candidates, 3),
        "memory_mb": {k: round(v, 1) for k, v in memory.items()},
    }
    print(json.dumps(found, indent=None if args.json else 2))
    pool.close()
    ray.shutdown()
    return 0 if found["work_share"] >= args.at_least else 1


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--candidates", type=int, default=10_000)
    parser.add_argument("--scale", type=float, default=1.0, help="time is divided by this")
    parser.add_argument("--wave", type=int, default=4, help="candidates in a wave, at most")
    parser.add_argument("--window", type=int, default=64, help="tasks from which waves are cut")
    parser.add_argument("--hives", type=int, default=2, help="processes that play the workers")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--explore", action="store_true", help="with the driver's own loop, ledger and grader")
    parser.add_argument("--json", action="store_true", help="one line of JSON")
    parser.add_argument("--at-least", type=float, default=0.0, help="exit 1 if less of the workers' time was work")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
