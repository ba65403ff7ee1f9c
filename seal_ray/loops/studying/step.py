"""One study, whoever does it: lessons in, a version and what it says of the exam's tasks out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seal_ray.config import Config, PolicySection
from seal_ray.errors import ConfigError
from seal_ray.events import UpdateDone
from seal_ray.loops.rounds import keep_update, update_job
from seal_ray.loops.session import Session, once
from seal_ray.loops.studying import adapters, drift
from seal_ray.loops.studying.adapters import Files
from seal_ray.loops.studying.trials import Exam, StudyRequest, graded, probed, record, study_all
from seal_ray.policy import versions
from seal_ray.policy.in_bank import BankUpdate, in_bank
from seal_ray.policy.job import LearnedEdit
from seal_ray.policy.lessons import Lesson
from seal_ray.policy.update import update
from seal_ray.records import Json, Keeping, StudyTrial, Task, Trial, Version, decode, derive_seed, encode
from seal_ray.storage.ledger import RoundLedger

IN_BANK = {"fresh", "ewc", "null_space", "slao"}  # what a bank has to know of; the rest is a matter of lessons


@dataclass(frozen=True)
class Pupil:
    """One sequence in one study."""

    name: str
    lessons: Sequence[Lesson]
    exam: Exam
    seed: int
    start: Files  # of the adapter that is trained on; none: a new one
    again: int = 0  # lessons at the end that are of earlier steps


def lasting(config: Config, rounds: int) -> Config:
    """The configuration with as many rounds as there will be, for whoever tells how far a run is."""
    return config.model_copy(update={"run": config.run.model_copy(update={"rounds": rounds})})


def by_update(config: Config) -> bool:
    """Whether Ray Train and DeepSpeed do it, and not the bank."""
    return config.policy.mode == "full" or config.study.where == "update"


def study_in_bank(
    session: Session, part: RoundLedger, pupils: Sequence[Pupil], parent: Version
) -> tuple[Version, list[Trial]]:
    """All of them in one bank. The round's version is the first one's adapter; all are kept for the next step."""
    config = session.config
    keep = config.study.keep
    section = adapters.trained_layers(session)
    method = keep.method if keep.method in IN_BANK else "none"
    keeping = Keeping(method, keep.strength, keep.energy, keep.most_rank)
    requests = [StudyRequest(p.name, _update_of(p, section, keeping, keep.method == "distill"), p.exam) for p in pupils]
    if known := part.get("update.json"):  # written last, so what it rests on is there
        own = {t.task: t for t in part.records("trials").values()}
        return decode(Version, known["version"]), [own[p.name] for p in pupils]
    with session.phase("update", len(pupils)):
        trials = study_all(session, part, adapters.ground(session, parent), requests)
    files = [trial.files for trial in trials if isinstance(trial, StudyTrial)]
    assert len(files) == len(trials), "a study that did not fail brings its adapter"
    adapters.keep_states(session, part, files)
    record(part, trials)
    version = adapters.keep_version(session, part, files[0], parent)
    first = trials[0]
    told: dict[str, Json] = {
        "version": encode(version),
        "edits": [encode(LearnedEdit(x.edit, x.task, x.weight)) for x in pupils[0].lessons],
        "recipe": section.model_dump(mode="json") | {"keep": keep.model_dump(mode="json"), "seed": pupils[0].seed},
        "environment": {"engine": "bank"},
        "steps": len(first.losses),
        "losses": list(first.losses),
        "seconds": sum(t.cost.fit_seconds for t in trials),
        "adapters": len(trials),
        "bytes": sum(len(data) for own in files for data in own.values()) // len(files),
    }
    part.put("update.json", told)
    session.tell(UpdateDone(version.number, told["steps"], first.losses[-1], round(told["seconds"], 1), 0.0, 0.0))
    return version, trials


def _update_of(pupil: Pupil, section: PolicySection, keeping: Keeping, distills: bool) -> BankUpdate:
    held = pupil.again if distills else 0
    return in_bank(pupil.lessons, section, pupil.seed, keeping=keeping, start=pupil.start, held=held)


def study_by_update(session: Session, part: RoundLedger, pupil: Pupil, parent: Version) -> tuple[Version, list[Trial]]:
    """One sequence through Ray Train and DeepSpeed, and then asked by a worker that has its version."""
    known = once(part, "update.json", lambda: _updated(session, part, pupil, parent))
    version = decode(Version, known["version"])
    trials = study_all(session, part, version, [StudyRequest(pupil.name, None, pupil.exam)])
    record(part, trials)
    return version, trials


def _updated(session: Session, part: RoundLedger, pupil: Pupil, parent: Version) -> Json:
    section = adapters.trained_layers(session)
    if session.config.study.keep.method == "fresh":
        section = section.model_copy(update={"fresh": True})
    session.tick()
    job = update_job(session, parent, pupil.lessons, section, pupil.seed, f"study-{part.number}")
    with session.phase("update"):
        try:
            result = update(job, sink=session.tell, tick=session.tick)
        finally:
            session.crew.release("trainer")
    made = versions.make(parent, result, part.number)
    return keep_update(session, part, result, replace(made, created_by=f"study of round {part.number}"))


def row(session: Session, part: RoundLedger, exams: Sequence[Exam], trials: Sequence[Trial]) -> Json:
    """What every sequence knows now, for the ledger."""
    rows: list[Mapping[str, Any]] = []
    for exam, trial in zip(exams, trials, strict=True):
        scores = graded(session, part, exam, trial)
        rows.append(
            {
                "candidate": trial.candidate,
                "exam": [task.id for task in exam.tasks],  # whose questions bear which number
                "scores": {task: encode(score) for task, score in scores.items()},
                "probe": probed(trial),
                "written": drift.expected(trial),
                "cost": encode(trial.cost),
            }
        )
    session.ledger.flush()
    return {"rows": rows}


def skills(session: Session) -> tuple[Task, ...]:
    """Tasks of which nothing is learned: what must stay as it is."""
    uri = session.config.study.skills
    if not uri:
        return tuple(session.domain.tasks("validation"))
    if not hasattr(session.domain, "regression"):
        raise ConfigError(f"study.skills: the domain {session.domain.name} takes none", hint="leave it empty")
    return tuple(session.domain.regression(uri))


def refuse_learned_skills(config: Config) -> None:
    """What must stay as it is can't be what is learned."""
    if config.study.split == "validation" and (not config.study.skills or config.gate.mode != "off"):
        raise ConfigError(
            "study.split: validation, and the validation tasks are those that must not get worse",
            hint="study another split, or name other tasks in study.skills and leave gate.mode: off",
        )


def refuse_many(config: Config) -> None:
    """Where there is no bank, sequences do not advance together."""
    if by_update(config) and config.study.sequences > 1:
        raise ConfigError(
            f"study.sequences: {config.study.sequences} advance together in a bank only, and policy.mode is full",
            hint="use study.sequences: 1, or policy.mode: lora",
        )


def seed_of(session: Session, *what: int | str) -> int:
    return derive_seed(session.config.run.seed, "study", *what)
