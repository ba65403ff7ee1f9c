"""A stream: studies one after another, each a round of the ledger, and what is left of the earlier ones.

Round 1 lays down who learns what and asks the base everything; round i + 1 is step i. Whoever starts the same command
again goes on at the step that is missing.
"""

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from seal_ray.config import Config, StudySection
from seal_ray.errors import ConfigError, DataError
from seal_ray.events import RoundStarted, Warned
from seal_ray.grading import retention
from seal_ray.loops import learnable
from seal_ray.loops.evaluation import refuse_missing
from seal_ray.loops.history import Run, as_written
from seal_ray.loops.session import Session, once
from seal_ray.loops.studying import adapters, drift
from seal_ray.loops.studying.route import by_likelihood, by_texts, put_together
from seal_ray.loops.studying.step import (
    Pupil,
    by_update,
    lasting,
    refuse_learned_skills,
    refuse_many,
    row,
    seed_of,
    skills,
    study_by_update,
    study_in_bank,
)
from seal_ray.loops.studying.texts import (
    Texts,
    as_read,
    gather,
    lessons_again,
    lessons_of,
    passages_alone,
    refuse_unlearnable,
    replayed,
    source,
    warn_of_objective,
)
from seal_ray.loops.studying.trials import BETWEEN, Exam, StudyRequest, record, study_all
from seal_ray.policy.lessons import Lesson
from seal_ray.records import Ask, Json, Task, Trial, Version, decode, derive_seed, encode
from seal_ray.storage.ledger import RoundLedger

PLAN, ROW = "stream.json", "row.json"
MEASURES = ("accuracy", "likelihood")


def stream(
    config: Config,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_stop: Callable[[Callable[[], None]], None] = lambda wind_up: None,
) -> Run:
    """Do a stream, or go on with it. What comes back reads the ledger."""
    source(config.study.texts)  # a name that is none is found before a model is fetched
    with Session(
        lasting(config, config.study.steps + 1), stop=stop, on_stop=on_stop, check=check, command="stream"
    ) as session:
        run_stream(session)
    return Run(config.run.uri, config.storage)


def check(session: Session) -> None:
    """Refuse before anything is written what the stream would lack: a run keeps the settings that it began with."""
    refuse_many(session.config)
    refuse_learned_skills(session.config)
    drawn = _curriculum(session, _drawn(session)["sequences"])
    arm = source(session.config.study.texts)
    refuse_missing(session, [arm], drawn.tasks)
    if arm.kind == "context":
        refuse_unlearnable(session, passages_alone(session), drawn.tasks)


@dataclass(frozen=True)
class Curriculum:
    """Who learns what, and when: for each sequence the tasks of each step; and tasks of which nothing is learned."""

    sequences: tuple[tuple[tuple[Task, ...], ...], ...]
    skills: tuple[Task, ...]
    section: StudySection
    written: tuple[Ask, ...] = ()  # what the first version writes by itself
    # of adapters that are chosen by words, in each sequence after each step: which step's answers which question
    routes: tuple[Mapping[int, Mapping[str, int]], ...] = ()

    @property
    def steps(self) -> int:
        return len(self.sequences[0])

    @property
    def tasks(self) -> tuple[Task, ...]:
        return tuple({t.id: t for own in self.sequences for step in own for t in step}.values())

    def exam(self, sequence: int, step: int) -> Exam:
        """What is asked after a step; before the first one is step 0."""
        section, steps = self.section, self.sequences[sequence]
        apart = section.keep.method == "separate"
        whole = apart or step % section.measure_every == 0 or step == len(steps)
        own = tuple(t for one in (steps if whole else steps[step - 1 : step]) for t in one)
        more = self.skills if whole else ()
        routed = apart and section.keep.router == "likelihood"
        if apart and step:
            return Exam((*own, *more), section.open_book, routed, only=self.ever_chosen(sequence, step))
        return Exam((*own, *more), section.open_book, routed, more, self.written if whole else ())

    def ever_chosen(self, sequence: int, step: int) -> frozenset[str] | None:
        """The questions that this step's adapter answers, now or after a later step; None where nobody can tell."""
        if not self.routes:
            return None
        later = [chosen for after, chosen in self.routes[sequence].items() if after >= step]
        return frozenset(name for chosen in later for name, who in chosen.items() if who == step)


def run_stream(session: Session) -> None:
    """Every step that is left."""
    refuse_many(session.config)
    part = session.open_round(1)
    drawn = once(part, PLAN, lambda: _drawn(session))
    curriculum = _curriculum(session, drawn["sequences"])
    first = session.ledger.latest() + 1
    if first > curriculum.steps + 1:
        return
    texts = gather(session, part, source(curriculum.section.texts), curriculum.tasks, curriculum.section.edits)
    if first == 1:
        _warn_of_gate(session)
        warn_of_objective(session)
        refuse_unlearnable(session, texts, curriculum.tasks)
        once(part, drift.WRITTEN, lambda: drift.write(session, part, texts.version))
    curriculum = replace(curriculum, written=drift.asks(part.get(drift.WRITTEN)))
    curriculum = replace(curriculum, routes=_routes(session, curriculum, texts))
    if first == 1:
        measure_base(session, part, curriculum, texts.version)
    for number in range(max(first, 2), curriculum.steps + 2):
        session.tick()
        run_step(session, number, curriculum, texts)


def _warn_of_gate(session: Session) -> None:
    if (mode := session.config.gate.mode) != "off":
        message = f"gate.mode: {mode} changes nothing here: a stream goes on from each of its versions"
        session.tell(Warned(f"{message}; `seal-ray study` has a gate"))


def _drawn(session: Session) -> Json:
    """Each sequence draws its own tasks, all sequences together without repeats as long as there are enough. What
    weighs nothing or has no question is left alone."""
    section, seed = session.config.study, session.config.run.seed
    there = session.domain.tasks(section.split)
    learnable.refuse_unasked(there)
    learnable.refuse_known(there)
    tasks = sorted(t.id for t in learnable.unknown(learnable.asked(there)))
    wanted = section.steps * section.tasks_per_step
    if len(tasks) < wanted:
        left = len(there) - len(tasks)
        raise ConfigError(
            f"study: {section.steps} steps of {section.tasks_per_step} tasks want {wanted}, and the split "
            f"{section.split} has {len(tasks)}"
            + (f" beside {left} without a question or known already" if left else ""),
            hint="lower study.steps or study.tasks_per_step, or give more data",
        )
    waiting: list[str] = []
    sequences: list[list[list[str]]] = []
    for sequence in range(section.sequences):
        own: list[str] = []
        while len(own) < wanted:
            if all(one in own for one in waiting):
                waiting = list(tasks)
                random.Random(derive_seed(seed, "stream", sequence, len(own))).shuffle(waiting)
            own.append(waiting.pop(next(i for i, one in enumerate(waiting) if one not in own)))
        sequences.append([own[i : i + section.tasks_per_step] for i in range(0, wanted, section.tasks_per_step)])
    return {"sequences": sequences, "skills": [t.id for t in skills(session)]}


def _curriculum(session: Session, sequences: Sequence[Sequence[Sequence[str]]]) -> Curriculum:
    section = session.config.study
    by_id = {t.id: t for t in session.domain.tasks(section.split)}
    gone = [one for own in sequences for step in own for one in step if one not in by_id]
    if gone:
        raise DataError(f"task {gone[0]} of this stream is not in the data any more", hint="put the data back")
    laid = tuple(tuple(tuple(by_id[i] for i in step) for step in own) for own in sequences)
    return Curriculum(laid, skills(session), section)


# rows of the matrix


def measure_base(session: Session, part: RoundLedger, curriculum: Curriculum, version: Version) -> None:
    """Row 0: what the version knows that the stream begins with."""
    _open(session, part, curriculum.tasks, version)
    exams = [curriculum.exam(s, 0) for s in range(len(curriculum.sequences))]

    def asked() -> Json:
        wanted = [StudyRequest(_name(s), None, exam) for s, exam in enumerate(exams)]
        trials = study_all(session, part, version, wanted)
        record(part, trials)
        return row(session, part, exams, trials)

    once(part, ROW, asked)
    session.commit(part, version, "studied")


def run_step(session: Session, number: int, curriculum: Curriculum, texts: Texts) -> None:
    """Every sequence learns its next tasks and is asked about all of them. Round `number` is step `number - 1`."""
    step = number - 1
    part, before = session.open_round(number), _after(session, number - 1)
    _open(session, part, [t for own in curriculum.sequences for t in own[step - 1]], before)
    once(part, ROW, lambda: _learned(session, part, curriculum, texts, step, before))
    update = part.get("update.json")
    assert update, "a row is written after its version"
    session.commit(part, decode(Version, update["version"]), "studied")


def _learned(
    session: Session, part: RoundLedger, curriculum: Curriculum, texts: Texts, step: int, before: Version
) -> Json:
    apart = curriculum.section.keep.method == "separate"
    if apart:
        before = texts.version
    starts = _starts(session, curriculum, texts.version, 1 if apart else step)
    pupils = [_pupil(session, curriculum, texts, s, step, start) for s, start in enumerate(starts)]
    if by_update(session.config):
        _, trials = study_by_update(session, part, pupils[0], before)
    else:
        _, trials = study_in_bank(session, part, pupils, before)
    if apart:
        trials = [_routed(session, curriculum, s, step, trial) for s, trial in enumerate(trials)]
    return row(session, part, [p.exam for p in pupils], trials)


def _starts(session: Session, curriculum: Curriculum, version: Version, step: int) -> list[adapters.Files]:
    """What each sequence's adapter is before a step."""
    if by_update(session.config):
        return [{}]
    if step == 1:
        return [adapters.start_of(session, version)] * len(curriculum.sequences)
    return adapters.states_of(session, step)


def _pupil(
    session: Session, curriculum: Curriculum, texts: Texts, sequence: int, step: int, start: adapters.Files
) -> Pupil:
    """A sequence before a step: its own texts, and with replay or distillation some of those before."""
    steps, keep = curriculum.sequences[sequence], curriculum.section.keep
    lessons, again = lessons_of(session, texts, steps[step - 1]), list[Lesson]()
    if keep.method in {"replay", "distill"}:
        earlier = [lesson for done in steps[: step - 1] for lesson in lessons_again(session, texts, done)]
        again = replayed(len(lessons), earlier, keep.share, seed_of(session, sequence, step, "replay"))
    name, exam, seed = _name(sequence), curriculum.exam(sequence, step), seed_of(session, sequence, step)
    return Pupil(name, [*lessons, *again], exam, seed, start, len(again))


def _routed(session: Session, curriculum: Curriculum, sequence: int, step: int, latest: Trial) -> Trial:
    """What the adapters of all steps so far answer together, each the questions that are its own."""
    trials: dict[int, Trial] = {}
    for earlier in range(step):
        records = session.ledger.round(earlier + 1).records("trials").values()
        trials[earlier] = next(t for t in records if t.task == _name(sequence))
    trials[step] = latest
    return put_together(trials, curriculum.routes[sequence][step] if curriculum.routes else by_likelihood(trials))


def _routes(session: Session, curriculum: Curriculum, texts: Texts) -> tuple[Mapping[int, Mapping[str, int]], ...]:
    """The words are known before anything is learned, and so is whom they choose."""
    keep = curriculum.section.keep
    if keep.method != "separate" or keep.router != "texts":
        return ()
    routes: list[Mapping[int, Mapping[str, int]]] = []
    for sequence, steps in enumerate(curriculum.sequences):
        read = [as_read(session, texts, own) for own in steps]
        asked = {
            f"{number}{BETWEEN}{q.id}": q.prompt.text
            for number, task in enumerate(curriculum.exam(sequence, 0).tasks)
            for q in session.domain.questions(task)
        }
        routes.append({step: by_texts(asked, read[:step]) for step in range(1, len(steps) + 1)})
    return tuple(routes)


def _open(session: Session, part: RoundLedger, tasks: Sequence[Task], version: Version) -> None:
    part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(version)})
    session.tell(RoundStarted(len(tasks), version.number, 0))


def _after(session: Session, number: int) -> Version:
    manifest = session.ledger.manifest(number)
    assert manifest, "the round before is committed"
    return decode(Version, manifest["version"])


def _name(sequence: int) -> str:
    return f"sequence-{sequence + 1}"


# reading it


def summary(run: Run) -> dict[str, Json] | None:
    """A stream's matrices, figures and curves by measure, as far as it is; None where the run is no stream."""
    with as_written(run.uri, "the rows of its stream"):
        return _summary(run)


def _summary(run: Run) -> dict[str, Json] | None:
    plan = run.ledger.round(1).get(PLAN)
    rows = [r["rows"] for n in run.ledger.rounds() if (r := run.ledger.round(n).get(ROW))] if plan else []
    if not plan or not rows:
        return None
    matrices = {measure: _matrices(plan["sequences"], rows, measure) for measure in (*MEASURES, "open_book")}
    seed = derive_seed(int(run.record["seed"]), "retention")
    measures = {}
    for measure, own in matrices.items():
        if any(v is not None for r in own for line in r for v in line) and len(own[0]) > 1:
            measures[measure] = {
                "matrix": retention.mean_matrix(own),
                "figures": encode(retention.figures(own, seed)),
                "curves": retention.curves(own),
            }
    study = (run.record["config"].get("study") or {}) | {}
    return {
        "method": (study.get("keep") or {}).get("method"),
        "sequences": len(plan["sequences"]),
        "steps": len(plan["sequences"][0]),
        "done": len(rows) - 1,
        "measures": measures,
        "skills": {m: [_skill(rows_of, plan["skills"], m) for rows_of in rows] for m in MEASURES},
        "probe": [_mean([one["probe"] for one in rows_of]) for rows_of in rows],
        "kl": [
            _mean([drift.kl(a.get("written"), b.get("written")) for a, b in zip(rows[0], own, strict=True)])
            for own in rows
        ],
        "cost": _cost(run, rows),
    }


def _matrices(
    sequences: Sequence[Sequence[Sequence[str]]], rows: Sequence[Sequence[Mapping[str, Any]]], measure: str
) -> list[list[list[float | None]]]:
    """For each sequence, R[i][j]: the mean over the tasks of step j after step i."""
    return [
        [
            [_mean([(line[s]["scores"].get(task) or {}).get(measure) for task in step]) for step in steps]
            for line in rows
        ]
        for s, steps in enumerate(sequences)
    ]


def _skill(line: Sequence[Mapping[str, Any]], names: Sequence[str], measure: str) -> float | None:
    return _mean([(own["scores"].get(name) or {}).get(measure) for own in line for name in names])


def _cost(run: Run, rows: Sequence[Sequence[Mapping[str, Any]]]) -> dict[str, Json]:
    """Of one sequence's step, on average; and how large its adapter and what its method remembers have become."""
    fit = [one["cost"]["fit_seconds"] for line in rows[1:] for one in line]
    updates = [run.ledger.round(n).get("update.json") or {} for n in run.ledger.rounds()]
    taken = [u["seconds"] for u in updates if "seconds" in u and u.get("environment", {}).get("engine") != "bank"]
    sizes = [u["bytes"] for u in updates if "bytes" in u]
    return {"seconds": _mean(taken or fit), "bytes": sizes[-1] if sizes else None}


def _mean(values: Sequence[float | None]) -> float | None:
    known = [v for v in values if v is not None]
    return sum(known) / len(known) if known else None
