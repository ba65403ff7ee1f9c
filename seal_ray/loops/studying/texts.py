"""What a study learns from: the texts of its tasks as lessons without a prompt, from wherever an arm has them."""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from seal_ray.config import Config
from seal_ray.domains import GuardedDomain
from seal_ray.domains.base import Rejected
from seal_ray.errors import ConfigError, DataError
from seal_ray.events import Warned
from seal_ray.loops.arm import SECTIONS, Arm
from seal_ray.loops.evaluation import SALT, arm_version, given_edits
from seal_ray.loops.explore import sample
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.session import Session
from seal_ray.policy import versions
from seal_ray.policy.lessons import Lesson, lesson_text
from seal_ray.policy.packing import fitting, vocabulary
from seal_ray.records import Edit, Task, Version
from seal_ray.storage.ledger import RoundLedger


@dataclass(frozen=True)
class Texts:
    """The edits of some tasks by an arm, and the version that its studies begin with."""

    version: Version
    edits: dict[str, list[Edit]]  # by task; none at all where the passages alone are learned
    # what was read as lessons once, by task: a stream comes back to earlier steps, and a long one to many
    known: dict[str, tuple[list[Lesson], list[str]]] = field(default_factory=dict, compare=False)


class LessonReader(Protocol):
    """What it takes to read the texts of tasks as lessons. A session has it."""

    @property
    def config(self) -> Config: ...
    @property
    def domain(self) -> GuardedDomain: ...
    @property
    def tokenizer(self) -> Any: ...
    @property
    def folder(self) -> str: ...


def source(name: str, settings_of: tuple[str, ...] = ()) -> Arm:
    """The arm of this name; refuses what is none, or none of a study. `settings_of`: what it may set for itself."""
    arm = Arm.of(name, settings_of or SECTIONS)
    if arm.joined or (arm.settings and not settings_of):
        raise ConfigError(
            f"study: {name}: an arm of a study joins all that it has, and the texts of a stream have no settings of "
            "their own",
            hint="name the source alone; study.edits says how many edits of a task are learned",
        )
    return arm


def warn_of_objective(session: Session) -> None:
    objective = session.config.inner.objective
    if objective.startswith("distill"):
        message = f"inner.objective: {objective} is how edits are tried; the version learns what stands in the texts"
        session.tell(Warned(message))


def passages_alone(session: Session) -> Texts:
    """Where nobody has to write anything."""
    return Texts(versions.first(session.base), {})


def gather(session: Session, part: RoundLedger, arm: Arm, tasks: Sequence[Task], edits: int) -> Texts:
    """Sample, read or fetch what the arm says, once: it is kept in the round."""
    version = arm_version(session, arm)
    if arm.kind in {"context", "none"}:
        return Texts(version, {})
    _write(session, part, arm, tasks, version, edits)
    return Texts(version, kept(part, edits))


def kept(part: RoundLedger, edits: int) -> dict[str, list[Edit]]:
    """The edits that the round has and that are learned from, by task: the first so many that did not fail."""
    by_task: dict[str, list[Edit]] = {}
    for edit in sorted(part.records("edits").values(), key=lambda e: (e.task, e.slot)):
        own = by_task.setdefault(edit.task, [])
        if not edit.failure and len(own) < edits:
            own.append(edit)
    return by_task


def _write(session: Session, part: RoundLedger, arm: Arm, tasks: Sequence[Task], version: Version, edits: int) -> None:
    """Whatever edits of the arm are not in the round yet, from where the arm has them."""
    if part.number <= session.ledger.latest():
        return  # it had them all before it was committed
    if arm.kind in {"untrained", "version"}:
        if {(t.id, slot) for t in tasks for slot in range(edits)} - _slots(part):
            sample(session, part, Plan(tuple(tasks), version, edits, repeats=0, context_arm=False, salt=SALT))
        return
    given = given_edits(session, arm, tasks, version, part, edits) or ()
    known = _slots(part)
    for edit in given:
        if (edit.task, edit.slot) not in known:
            part.append("edits", edit)
    part.flush()


def _slots(part: RoundLedger) -> set[tuple[str, int]]:
    return {(e.task, e.slot) for e in part.records("edits").values()}


def lessons_of(session: Session, texts: Texts, tasks: Sequence[Task]) -> list[Lesson]:
    """Every text of these tasks once. What can't be learned is told; a task with nothing left stops the study."""
    out: list[Lesson] = []
    for task in tasks:
        if texts.edits and not texts.edits.get(task.id):
            session.tell(Warned(f"task {task.id} has no edit that can be learned: its passage alone is"))
        own, reasons = _learnable(session, texts, task)
        for reason in reasons:
            session.tell(Warned(f"a text of task {task.id} is not learned: {reason}"))
        out += own
    return out


def lessons_again(reader: LessonReader, texts: Texts, tasks: Sequence[Task]) -> list[Lesson]:
    """The same of tasks that had their turn: what can't be learned of them was told."""
    return [lesson for task in tasks for lesson in _learnable(reader, texts, task)[0]]


def as_read(reader: LessonReader, texts: Texts, tasks: Sequence[Task]) -> str:
    """What is learned of these tasks, in words."""
    own = [lesson.text for lesson in lessons_again(reader, texts, tasks)]
    return " ".join(reader.tokenizer.decode([*text.prompt_ids, *text.ids]) for text in own)


def refuse_unlearnable(session: Session, texts: Texts, tasks: Sequence[Task]) -> None:
    """Before the first step takes its hours: of each of these tasks something can be learned."""
    for task in tasks:
        _learnable(session, texts, task)


def _learnable(reader: LessonReader, texts: Texts, task: Task) -> tuple[list[Lesson], list[str]]:
    """What is learned of the task, and why the rest is not."""
    if task.id in texts.known:
        return texts.known[task.id]
    own, why = _of_task(reader, texts, task)
    size, longest = vocabulary(reader.folder)
    limits = {"policy.max_length": reader.config.policy.max_length, "the model's own limit": longest}
    fit, left = fitting(own, limits, {}, size)
    reasons = [*why, *(one.reason for one in left)]
    if not fit:
        raise DataError(
            f"task {task.id} has no text that can be learned: {reasons[0] if reasons else 'there is none'}",
            hint="raise policy.max_length and inner.max_length up to the model's own limit, or cut the passage; where "
            "the run has begun, in a run of its own",
        )
    texts.known[task.id] = fit, reasons
    return fit, reasons


def _of_task(reader: LessonReader, texts: Texts, task: Task) -> tuple[list[Lesson], list[str]]:
    edits: list[Edit | None] = [*texts.edits.get(task.id, ())] or [None]
    seen: dict[tuple[int, ...], Lesson] = {}
    why: list[str] = []
    for edit in edits:
        try:
            examples, _ = reader.domain.training(task, edit.content if edit else None, reader.tokenizer)
        except Rejected as rejected:
            why.append(rejected.failure.message)
            continue
        for example in examples:
            name = edit.id if edit else "context"
            prompt = next((i for i, learned in enumerate(example.mask) if learned), len(example.ids))
            text = lesson_text(example.ids[:prompt], example.ids[prompt:])
            if text.ids:
                seen.setdefault(example.ids, Lesson(f"{name}-{len(seen)}", task.id, text))
    return list(seen.values()), why


def replayed(count: int, earlier: Sequence[Lesson], share: float, seed: int) -> list[Lesson]:
    """Of the lessons before a step with `count` of its own, as many as this share of them, drawn evenly."""
    if not earlier or not share:
        return []
    drawn = random.Random(seed).sample(range(len(earlier)), min(len(earlier), max(1, round(share * count))))
    return [replace(earlier[i], edit=f"again-{earlier[i].edit}") for i in sorted(drawn)]
