"""SEAL's loop: a run as rounds, and a round as a sequence of phases. Read `run_round` first.

Whatever a phase decides is in the ledger before the next one relies on it, so a driver may die at any line: the next
one takes up what is there and goes on.
"""

import contextlib
import os
import random
import time
from collections.abc import Callable, Sequence

from seal_ray.config import Config, PolicySection, StorageSection
from seal_ray.domains.base import Rejected
from seal_ray.errors import DataError, InfraError, Unlearnable
from seal_ray.events import EditsSelected, GateDecided, RoundStarted, UpdateDone, Warned
from seal_ray.grading.reward import RoundRewards
from seal_ray.loops import foreseeing, gate_trials, held_out, learnable, parents, voting
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.explore import explore
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.history import AFTER, BEFORE, Run
from seal_ray.loops.rewarding import settle
from seal_ray.loops.session import Session, once
from seal_ray.models.shared import kept_at
from seal_ray.policy import control, select, versions
from seal_ray.policy.job import UpdateJob, UpdateResult
from seal_ray.policy.lessons import Lesson, LessonText, lessons
from seal_ray.policy.update import update
from seal_ray.records import Choice, Json, Task, Version, decode, derive_seed, encode
from seal_ray.storage.ledger import RoundLedger

PROBED = 16  # validation tasks


def run(
    config: Config,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_stop: Callable[[Callable[[], None]], None] = lambda wind_up: None,
) -> Run:
    """Do a run, or go on with it. What comes back reads the ledger. `stop` and `on_stop`: see `Session`."""
    with Session(config, stop=stop, on_stop=on_stop, check=check, command="run") as session:
        run_rounds(session)
    return Run(config.run.uri, config.storage)


def check(session: Session) -> None:
    """Refuse before a run begins what it could not come to its end without."""
    gate_trials.check(session)
    held_out.check(session)
    foreseeing.check(session)
    learnable.check(session.domain.tasks("train"), session.config.grading)


def open(uri: str, storage: StorageSection | None = None) -> Run:
    """A run that is already there, to read."""
    return Run(uri, storage)


def run_rounds(session: Session) -> None:
    """Every round that is left, up to the first whose gate waits for a person."""
    for number in range(session.ledger.latest() + 1, session.config.run.rounds + 1):
        session.tick()  # a budget that is spent costs no cluster
        if not run_round(session, number):
            session.outcome = "held"
            return


def run_round(session: Session, number: int) -> bool:
    """Whether the round was committed; if not, its gate waits for a person."""
    part = session.open_round(number)
    tasks, version = begin(session, part)
    if number == 1:
        held_out.look(session, part, version, BEFORE)
    exploration = try_edits(session, part, tasks, version)
    rewarded = settle(session, part, exploration, votes=True)
    voting.watch(session, part, rewarded.votes)
    chosen = choose(session, part, exploration, rewarded)
    new = learn(session, part, version, chosen)
    decision = pass_gate(session, part, version, new)
    if decision == "hold":
        return False
    accepted = new if decision == "accept" else None
    current = accepted or parents.current_before(session.ledger, number, session.base)
    held_out.look(session, part, current, AFTER)
    session.commit(part, current, decision)
    return True


# which tasks, and who writes for them


def begin(session: Session, part: RoundLedger) -> tuple[tuple[Task, ...], Version]:
    """The round's tasks and the version that writes for them; decided once."""
    run = session.config.run

    def decided() -> Json:
        version = parents.parent_of(session.ledger, part.number, session.base, session.config)
        every = session.domain.tasks("train")
        asked = learnable.asked(every) if learnable.asks(session.config.grading) else ()
        tasks = draw(asked or every, run.seed, part.number, run.tasks_per_round)
        return {"tasks": [encode(t) for t in tasks], "version": encode(version)}

    known = once(part, "tasks.json", decided)
    tasks, version = tuple(decode(Task, t) for t in known["tasks"]), decode(Version, known["version"])
    parents.refuse_other_base(version, session.base, session.config)
    session.tell(RoundStarted(len(tasks), version.number, session.config.sampling.edits))
    return tasks, version


def draw(tasks: Sequence[Task], seed: int, number: int, count: int) -> list[Task]:
    """The round's tasks: in a seeded order without repeats until all were seen, then in a new order.

    Where the data gives its passages weights each round draws anew by these; what weighs nothing is left alone.
    """
    if len({t.weight for t in tasks}) > 1:
        return _by_weight(tasks, random.Random(derive_seed(seed, "weighted tasks", number)), count)
    wanted = min(count, len(tasks))
    drawn: list[Task] = []
    position = (number - 1) * wanted
    while len(drawn) < wanted:
        again, offset = divmod(position, len(tasks))
        order = list(range(len(tasks)))
        random.Random(derive_seed(seed, "tasks", again)).shuffle(order)
        task = tasks[order[offset]]
        if all(t.id != task.id for t in drawn):
            drawn.append(task)
        position += 1
    return drawn


def _by_weight(tasks: Sequence[Task], luck: random.Random, count: int) -> list[Task]:
    """So many different ones, each next one drawn by the weights of those that are left."""
    arrivals = [(luck.expovariate(1.0) / t.weight, n) for n, t in enumerate(tasks) if t.weight > 0]
    return [tasks[n] for _, n in sorted(arrivals)[:count]]


# sample, try, grade


def try_edits(session: Session, part: RoundLedger, tasks: tuple[Task, ...], version: Version) -> Exploration:
    """Edits of every task, and what training on each does; only the edits where a judge rates these themselves."""
    config = session.config
    plan = Plan(
        tasks,
        version,
        edits=config.sampling.edits,
        repeats=config.inner.repeats,
        context_arm=config.inner.context_arm,
        salt=part.number,
        trials=learnable.asks(config.grading),
        model=foreseeing.gain_model(session, part),
        heat=config.inner.heat,
    )
    return explore(session, part, plan)


# select


def choose(session: Session, part: RoundLedger, exploration: Exploration, rewarded: RoundRewards) -> list[Lesson]:
    """What to learn from."""
    choices = selected(session, part, rewarded)
    return lessons(choices, {e.id: e for edits in exploration.edits.values() for e in edits})


def selected(session: Session, part: RoundLedger, rewarded: RoundRewards) -> list[Choice]:
    """The edits that were chosen, and how much each weighs."""
    section = session.config.select

    def decided() -> Json:
        looked_at = rewarded.rewards
        if section.control == "shuffled":
            looked_at = control.shuffled(looked_at, derive_seed(session.config.run.seed, part.number, "control"))
        picked = select.choose(looked_at, section)
        return {
            "choices": [encode(c) for c in picked],
            "kept": encode(select.kept(rewarded.rewards, picked)),  # by what they are, whatever they were chosen by
            "abstained": select.abstentions(looked_at, section),
            **control.told(rewarded.rewards, looked_at),
        }

    known = once(part, "selection.json", decided)
    choices, abstained = [decode(Choice, c) for c in known["choices"]], known["abstained"]
    kept = sum(c.weight > 0 for c in choices)
    session.tell(EditsSelected(kept, len(abstained), abstained, known["kept"]))
    return choices


# update


def learn(session: Session, part: RoundLedger, version: Version, chosen: Sequence[Lesson]) -> Version | None:
    """Train the policy on. None: there was nothing to learn from."""
    known = once(part, "update.json", lambda: _trained(session, part, version, chosen))
    return decode(Version, known["version"]) if known["version"] else None


def _trained(session: Session, part: RoundLedger, version: Version, chosen: Sequence[Lesson]) -> Json:
    """The new version, its files in the ledger, and what it was trained on; or why there is none."""
    if not chosen:
        session.tell(Warned("no edit was chosen: the version stays, the round has no update"))
        return {"version": None, "reason": "no edit was chosen"}
    session.tick()
    with session.phase("update"):
        seed = derive_seed(session.config.run.seed, part.number, "update")
        job = update_job(session, version, chosen, session.config.policy, seed, f"update-{part.number}")
        try:
            result = update(job, sink=session.tell, tick=session.tick)
        except Unlearnable as error:  # the round goes on without an update
            session.tell(Warned(f"the update failed, the version stays: {error}"))
            return {"version": None, "reason": str(error)}
        except DataError as error:  # what was looked at before the round is gone or damaged where trainers read it
            hint = "mend that, then the same command goes on; what was found is kept"
            raise InfraError(f"the update could not be made: {error}", hint=hint) from error
        finally:
            session.crew.release("trainer")
    return keep_update(session, part, result, versions.make(version, result, part.number))


def update_job(
    session: Session, version: Version, chosen: Sequence[Lesson], section: PolicySection, seed: int, name: str
) -> UpdateJob:
    """The update of a version by these lessons; `name` tells its folder from others."""
    config = session.config
    return UpdateJob(
        base=session.folder,
        digest=version.base,
        adapter=session.adapter(version),
        kept=kept_at(config, version),
        lessons=tuple(chosen),
        section=section,
        seed=seed,
        probe=probe_texts(session),
        output=os.path.join(session.scratch, f"{name}-{time.monotonic_ns()}"),
        model=session.model,
        storage=config.storage,
        **session.crew.trainers(),
    )


def keep_update(session: Session, part: RoundLedger, result: UpdateResult, new: Version) -> Json:
    """Put the files of an update into its round; what came of it."""
    part.put_dir("version", result.folder)
    last, seconds = result.losses[-1], round(result.seconds, 1)
    session.tell(UpdateDone(new.number, result.steps, last, seconds, result.kl, result.entropy))
    return versions.told(result) | {"version": encode(new)}


def probe_texts(session: Session) -> tuple[LessonText, ...]:
    """What drift from the base is measured on: texts of validation tasks, from which nothing is learned."""
    texts = []
    for task in session.domain.tasks("validation")[:PROBED]:
        with contextlib.suppress(Rejected):
            examples, _ = session.domain.training(task, None, session.tokenizer)
            ids = examples[0].ids[: session.config.policy.max_length]
            texts.append(LessonText(ids[:1], ids[1:]))
    return tuple(texts)


# gate


def pass_gate(session: Session, part: RoundLedger, version: Version, new: Version | None) -> str:
    """accept, reject, hold, or no update."""
    if new is None:
        return "no update"
    if session.config.gate.mode == "off":
        return "accept"

    return final_decision(session, part, gate_trials.compared(session, part, version, new))


def final_decision(session: Session, part: RoundLedger, known: Json) -> str:
    """The gate's decision or, where it was held, a person's if there is one by now."""
    said = part.get("decision.json") if known["decision"] == "hold" else None
    decision = (said or known)["decision"]
    session.tell(GateDecided(decision, known["figures"], tuple(known["reasons"])))
    return decision
