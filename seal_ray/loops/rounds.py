"""A run as rounds, and a round as a sequence of phases: sample, try, grade, select, update, gate, commit.

Read `Driver.round` first. Everything that happens is in the ledger before the next step relies on it, so a driver may
die at any line: the next one finds what is there and goes on.
"""

import dataclasses
import os
import random
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from seal_ray import config_file, grading, models, observe
from seal_ray.config import MAY_CHANGE, Config, StorageSection
from seal_ray.domains import configured
from seal_ray.errors import BudgetSpent, ConfigError, CoverageError, DataError, InfraError, Interrupted, SealError
from seal_ray.fleet.crew import Crew
from seal_ray.fleet.node_survey import check_nodes
from seal_ray.grading.reward import RoundRewards, more_repeats, rewards
from seal_ray.grading.rubric import rate
from seal_ray.loops import gate_trials
from seal_ray.loops.exploration import Exploration, Plan, explore
from seal_ray.loops.history import Run
from seal_ray.policy import select, versions
from seal_ray.policy.job import UpdateJob
from seal_ray.policy.lessons import Lesson, lessons
from seal_ray.policy.update import update
from seal_ray.records import Choice, Event, Json, Task, Version, decode, derive_seed, encode
from seal_ray.software import lacking, software
from seal_ray.storage.ledger import Ledger, RoundLedger

RATED_AT_ONCE = 64  # edits that are sent to the judge between two looks at the budget


def run(
    config: Config,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_stop: Callable[[Callable[[], None]], None] = lambda wind_up: None,
) -> Run:
    """Do a run, or go on with it. What comes back reads the ledger.

    `stop` is asked often and ends the run cleanly; `on_stop` is told what must be done where nobody can ask.
    """
    driver = Driver(config, stop)
    on_stop(driver.hand_over)
    try:
        driver.go()
    finally:
        driver.close()
    return Run(config.run.uri, config.storage)


def open(uri: str, storage: StorageSection | None = None) -> Run:
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
        self._scratch = ""
        self._telling = threading.Lock()
        self._foreign: dict[str, Ledger] = {}  # versions that come from another run
        asking = config.grading.grader in {"judge", "cascade"}
        self._graders = ThreadPoolExecutor(8 if asking else 1, thread_name_prefix="grading")

    # what everything is told through

    def tell(self, event: Event) -> None:
        event = dataclasses.replace(event, round=event.round or self._round, time=event.time or time.time())
        with self._telling:
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
                hint="the same command goes on with it",
            )
        self.ledger.check()
        budget = self.config.run.budget
        spent = {
            "hours": (time.monotonic() - self.started) / 3600,
            "gpu_hours": self.crew.gpu_hours() if self.crew and budget.gpu_hours else 0.0,
            "judge_dollars": getattr(self.grader, "dollars", 0.0) + (self.rubric.usage.dollars if self.rubric else 0.0),
        }
        for name, amount in spent.items():
            limit = getattr(budget, name)
            if limit and amount >= limit:
                self._tell("budget", spent={name: amount}, limit=limit)
                raise BudgetSpent(
                    f"run.budget.{name}: {limit:g} is spent; everything found is kept",
                    hint="raise it to go on where this stopped",
                )

    # a run as rounds

    def go(self) -> None:
        self._set_up()
        try:
            outcome = self._rounds()
        except SealError as error:
            self._tell("run_ended", outcome=type(error).__name__, reason=str(error), seconds=self._seconds())
            raise
        finally:
            if self.crew:
                self.crew.release("sampler", "worker")
        self._tell("run_ended", outcome=outcome, seconds=self._seconds())

    def _set_up(self) -> None:
        """Everything but the cluster: ledger, model, tokenizer, domain, grader, and who is told what."""
        resumed = self._open_ledger()
        config = self.config
        self.folder = models.fetch(config.model, config.storage)
        self.tokenizer = models.tokenizer(self.folder, trust_remote_code=config.model.trust_remote_code)
        self.chat = config.model.chat == "yes" or (
            config.model.chat == "auto" and models.has_chat_template(self.folder)
        )
        self.domain = configured(config, self.chat)
        self.grader = grading.build(config.grading, config.run.uri, config.storage)
        self.rubric = grading.judge_endpoint(config.grading) if config.grading.reward == "rubric" else None
        self.train_tasks = list(self.domain.tasks("train"))
        if not self.train_tasks:
            raise ConfigError("domain.validation and domain.test leave no tasks to train on", hint="lower one of them")
        self.base = models.digest_of(self.folder)
        self._scratch = tempfile.mkdtemp(prefix="seal-ray-")
        self._sinks = observe.build(config.observe, config)
        if not resumed:
            self._need_crew()  # a cluster that lacks what the run needs is found before anything is written
            self.ledger.create(config.model_dump(mode="json"), software(), config.run.seed)
        epoch = self.ledger.acquire(f"{socket.gethostname()}:{os.getpid()}")
        self._tell(
            "run_started",
            uri=config.run.uri,
            seed=config.run.seed,
            rounds=config.run.rounds,
            epoch=epoch,
            resumed=resumed,
        )
        for warning in getattr(self.domain, "warnings", ()):
            self._tell("warning", message=warning)

    def _seconds(self) -> float:
        return round(time.monotonic() - self.started, 1)

    def _open_ledger(self) -> bool:
        """Whether there is a run to go on with; refuses one that was configured otherwise."""
        uri, wish = self.config.run.uri, self.config.run.resume
        if not self.ledger.exists():
            if wish == "must":
                raise ConfigError(f"run.resume: must, but there is no run at {uri}", hint="check run.uri")
            return False
        if wish == "never":
            raise ConfigError(f"run.resume: never, but there is a run at {uri}", hint="choose another run.uri")
        # as this version reads it: a field that came later has the default, which is what was done before it
        was = config_file.resolved(self.ledger.run()["config"])
        differ = differences(was.model_dump(mode="json"), self.config.model_dump(mode="json"))
        if differ:
            raise ConfigError(
                f"the run at {uri} was configured otherwise: " + "; ".join(differ),
                hint="put these back, or choose another run.uri",
            )
        return True

    def _rounds(self) -> str:
        first = self.ledger.latest() + 1
        if first > self.config.run.rounds:
            return "done"
        self._need_crew()
        for number in range(first, self.config.run.rounds + 1):
            self._round = number
            if not self.round(number):
                return "held"
        return "done"

    def _need_crew(self) -> None:
        if self.crew is None:
            absent = lacking(software())
            if absent:
                raise InfraError(
                    f"not installed here: {', '.join(absent)}",
                    hint="install seal-ray with its cpu or gpu extra, here and on every node",
                )
            self.crew = Crew(self.config, self.folder, self.tell)
            check_nodes(self.config)  # before a process of ours takes a device

    # a round as a sequence of phases

    def round(self, number: int) -> bool:
        """Whether the round was committed; if not, its gate waits for a person."""
        began = time.monotonic()
        part = self.ledger.round(number)
        tasks, version = self._tasks(part, number)
        inner, sampling = self.config.inner, self.config.sampling
        self._tell("round_started", tasks=len(tasks), version=version.number, edits=sampling.edits)
        tried = self.config.grading.reward != "rubric"
        plan = Plan(number, version, tasks, sampling.edits, inner.repeats, inner.context_arm, trials=tried)
        found = self._explore(part, plan)
        if not tried:
            self._rate(found)
        worth = self._reward(part, found)
        chosen = self._select(part, found, worth)
        new = self._update(part, version, chosen)
        decision = self._gate(part, version, new)
        if decision == "hold":
            return False
        current = new if new and decision == "accept" else version
        manifest = part.commit({"version": encode(current), "decision": decision})
        self._tell(
            "round_committed",
            manifest=manifest,
            version=current.number,
            decision=decision,
            seconds=round(time.monotonic() - began, 1),
        )
        return True

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
        back = self.ledger.round(number).get("rollback.json")
        if back:
            return decode(Version, back["version"])
        manifest = self.ledger.manifest(number - 1) if number > 1 else None
        return decode(Version, manifest["version"]) if manifest else versions.first(self.base)

    def _adapter(self, version: Version) -> str | None:
        """The folder with a version's files on this machine, fetched from the ledger if it is not there yet."""
        if version.path is None:
            return None
        folder = os.path.join(self._scratch, version.digest[:16])
        if not os.path.isdir(folder):
            _, made_in, name = version.path.split("/")
            os.makedirs(folder + ".part", exist_ok=True)
            ledger = self._foreign.get(version.digest, self.ledger)
            ledger.round(int(made_in)).get_dir(name, folder + ".part")
            versions.check(version, folder + ".part")
            os.rename(folder + ".part", folder)
        return folder

    # explore: sample, try and grade

    def _explore(self, part: RoundLedger, plan: Plan) -> Exploration:
        exploration = Exploration(
            plan,
            config=self.config,
            domain=self.domain,
            tokenizer=self.tokenizer,
            grader=self.grader,
            graders=self._graders,
            ledger=part,
            sink=self.tell,
        )
        self._try(exploration)
        return exploration

    def _try(self, exploration: Exploration) -> None:
        """Sample and try until the exploration is done: side by side where there is room, else in turn."""
        if exploration.done:
            return
        assert self.crew
        began = time.monotonic()
        version = exploration.plan.version
        adapter = self._adapter(version)
        phase = "trials" if exploration.sampled else "sampling"
        self._tell("phase_started", phase=phase, total=len(exploration.plan.tasks) * exploration.plan.edits)
        if self.crew.overlap or exploration.sampled:
            samplers = None if exploration.sampled else self.crew.samplers(version, adapter)
            explore(exploration, samplers, self.crew.pool(version, adapter), self.tick)
        else:
            explore(exploration, self.crew.samplers(version, adapter), None, self.tick)
            explore(exploration, None, self.crew.pool(version, adapter), self.tick)
        self.ledger.flush()
        for name in dict.fromkeys((phase, "trials", "grading")):
            self._tell("phase_ended", phase=name, seconds=round(time.monotonic() - began, 1))

    def _rate(self, found: Exploration) -> None:
        """A judge's opinion of the edits themselves, in place of trials."""
        assert self.rubric
        while waiting := found.unrated[:RATED_AT_ONCE]:
            self.tick()
            found.rated(rate(found.plan.tasks, waiting, self.rubric))
        self.ledger.flush()

    def _reward(self, part: RoundLedger, found: Exploration) -> RoundRewards:
        """Rewards from what was found; while the choice is open and repeats are left, ask for more."""
        known = part.get("rewards.json")
        if known:
            return decode(RoundRewards, {k: v for k, v in known.items() if k != "coverage"})
        extra = self.config.inner.extra_repeats * len(found.plan.tasks)
        worth = self._value(found)
        while extra:
            requests = more_repeats(worth, extra, found.asked(), found.plan.version.digest)
            if not requests:
                break
            found.more(requests)
            self._try(found)
            worth = self._value(found)
        coverage = found.coverage()
        if coverage < self.config.run.coverage:
            raise CoverageError(
                f"round {found.plan.round}: only {coverage:.0%} of the candidates have a verdict, "
                f"run.coverage wants {self.config.run.coverage:.0%}",
                hint=f"`seal-ray status {self.config.run.uri}` says what failed; the same command tries again",
            )
        part.put("rewards.json", encode(worth) | {"coverage": coverage})
        self._tell(
            "rewards",
            reliability=encode(worth.reliability),
            arms=encode(worth.arms),
            diversity=worth.diversity,
            coverage=coverage,
        )
        for note in worth.notes:
            self._tell("warning", message=note)
        return worth

    def _value(self, found: Exploration) -> RoundRewards:
        section = self.config.grading
        if found.plan.trials and section.reward == "rubric":  # the gate tries what it compares
            section = section.model_copy(update={"reward": "blend"})
        # in one order, whatever the order in which things came in: sums of floats depend on it
        return rewards(
            [e for _, edits in sorted(found.edits.items()) for e in edits],
            [c for _, c in sorted(found.candidates.items())],
            [t for _, t in sorted(found.trials.items()) if not t.failure],
            [v for _, verdicts in sorted(found.verdicts.items()) for v in verdicts],
            section=section,
        )

    def _select(self, part: RoundLedger, found: Exploration, worth: RoundRewards) -> list[Lesson]:
        section = self.config.select
        known = part.get("selection.json")
        if not known:
            picked = select.choose(worth.rewards, section)
            known = {
                "choices": [encode(c) for c in picked],
                "kept": encode(select.kept(worth.rewards, picked)),
                "abstained": select.abstentions(worth.rewards, section),
            }
            part.put("selection.json", known)
        choices = [decode(Choice, c) for c in known["choices"]]
        kept, abstained = known["kept"], known["abstained"]
        self._tell("selected", choices=len(choices), abstained=len(abstained), reasons=abstained, kept=kept)
        return lessons(choices, {e.id: e for edits in found.edits.values() for e in edits})

    # update

    def _update(self, part: RoundLedger, version: Version, chosen: Sequence[Lesson]) -> Version | None:
        """Train the policy's adapter on. None: there was nothing to learn from."""
        known = part.get("update.json")
        if known:
            return decode(Version, known["version"]) if known["version"] else None
        if not chosen:
            self._tell("warning", message="no edit was chosen: the version stays, the round has no update")
            part.put("update.json", {"version": None, "reason": "no edit was chosen"})
            return None
        assert self.crew
        self.tick()
        section = self.config.policy
        self._tell("phase_started", phase="update", total=0)
        trainers = self.crew.trainers()
        job = UpdateJob(
            base=self.folder,
            adapter=self._adapter(version),
            lessons=tuple(chosen),
            section=section,
            seed=derive_seed(self.config.run.seed, part.number, "update"),
            output=os.path.join(self._scratch, f"update-{part.number}-{time.monotonic_ns()}"),
            model=self.config.model,
            storage=self.config.storage,
            **trainers,
        )
        try:
            result = update(job, sink=self.tell)
        except DataError as error:  # what was to be learned is at fault: the round goes on without an update
            self._tell("warning", message=f"the update failed, the version stays: {error}")
            part.put("update.json", {"version": None, "reason": str(error)})
            return None
        finally:
            self.crew.release("trainer")
        new = versions.make(version, result, part.number)
        part.put_dir("version", result.folder)
        learned = {
            "version": encode(new),
            "edits": [{"edit": lesson.edit, "task": lesson.task, "weight": lesson.weight} for lesson in chosen],
            "recipe": section.model_dump(mode="json"),
            "environment": software(),
        }
        part.put("update.json", versions.told(result) | learned)
        self._tell(
            "update",
            version=new.number,
            steps=result.steps,
            loss=result.losses[-1],
            seconds=round(result.seconds, 1),
            kl=result.kl,
            entropy=result.entropy,
        )
        self._tell("phase_ended", phase="update", seconds=round(result.seconds, 1))
        return new

    # gate

    def _gate(self, part: RoundLedger, version: Version, new: Version | None) -> str:
        """accept, reject, hold, or no update. A person's word on a held version is in decision.json."""
        if new is None:
            return "no update"
        if self.config.gate.mode == "off":
            return "accept"
        known = part.get("gate.json")
        if not known:
            self._tell("phase_started", phase="gate", total=0)
            began = time.monotonic()
            update_known = part.get("update.json") or {}
            result = gate_trials.compare(
                lambda plan: self._explore(part, plan),
                self._value,
                config=self.config,
                domain=self.domain,
                number=part.number,
                old=version,
                new=new,
                drift=update_known.get("drift"),
                chat=self.chat,
            )
            known = encode(result)
            part.put("gate.json", known)
            self._tell("phase_ended", phase="gate", seconds=round(time.monotonic() - began, 1))
        word = part.get("decision.json") if known["decision"] == "hold" else None
        decision = word["decision"] if word else known["decision"]
        self._tell("gate", decision=decision, figures=known["figures"], reasons=known["reasons"])
        return decision

    # the end

    def hand_over(self) -> None:
        """Close the ledger in what time is left, from another thread, where the driver itself is stuck."""
        self.ledger.close(within=self.config.storage.stop_within / 2)

    def close(self) -> None:
        try:
            self.ledger.close(within=None if not self._stop() else self.config.storage.stop_within / 2)
        finally:
            self._graders.shutdown(wait=False, cancel_futures=True)
            for sink in self._sinks:
                sink.close()
            if self.crew:
                self.crew.close()
            if self._scratch:
                shutil.rmtree(self._scratch, ignore_errors=True)


def draw(tasks: Sequence[Task], seed: int, number: int, count: int) -> list[Task]:
    """The round's tasks: in a seeded order without repeats until all were seen, then in a new order."""
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
