"""A study: the texts of many tasks become one version, arm by arm, and everything is asked before and after.

Each arm is a round in the ledger: it resumes, verifies and reports like one, its version has lineage, gate and export.
"""

from collections.abc import Callable, Mapping
from typing import Any

from seal_ray.config import Config
from seal_ray.errors import ConfigError, DataError
from seal_ray.events import GateDecided, RoundStarted, Warned
from seal_ray.loops import gate_trials, learnable
from seal_ray.loops.evaluation import plain, refuse_missing
from seal_ray.loops.history import Run, as_written
from seal_ray.loops.rounds import draw
from seal_ray.loops.session import Session, once
from seal_ray.loops.studying.adapters import start_of
from seal_ray.loops.studying.step import (
    Pupil,
    by_update,
    lasting,
    refuse_learned_skills,
    row,
    seed_of,
    skills,
    study_by_update,
    study_in_bank,
)
from seal_ray.loops.studying.texts import (
    gather,
    lessons_of,
    passages_alone,
    refuse_unlearnable,
    source,
    warn_of_objective,
)
from seal_ray.loops.studying.trials import Exam, StudyRequest, record, study_all
from seal_ray.loops.varied_session import VariedSession
from seal_ray.policy import bootstrap
from seal_ray.records import Json, Task, Version, decode, derive_seed, encode
from seal_ray.storage.ledger import RoundLedger

BASE = "none"  # the first arm: nothing is learned
ARM, ROW = "arm.json", "row.json"
PUPIL = "study"
# what an arm may set for itself: what is written, and how much of it
OF_AN_ARM = ("study.edits", "domain.", "sampling.temperature", "sampling.top_p", "sampling.max_tokens")
OF_EARLIER_STEPS = {"replay", "distill", "ewc", "null_space", "separate"}


def study(
    config: Config,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_stop: Callable[[Callable[[], None]], None] = lambda wind_up: None,
) -> Run:
    """Do every arm that is left. What comes back reads the ledger."""
    for name in config.study.arms:
        source(name, OF_AN_ARM).configured(config)  # what can't be had is found before a model is fetched
    whole = lasting(config, len(config.study.arms) + 1)
    with Session(whole, stop=stop, on_stop=on_stop, check=check, command="study") as session:
        run_study(session)
    return Run(config.run.uri, config.storage)


def check(session: Session) -> None:
    """Refuse what the gate, the last arm or the questions that must not get worse would lack, before the first arm
    takes its hours."""
    gate_trials.check(session)
    refuse_learned_skills(session.config)
    skills(session)
    arms, tasks = [source(arm, OF_AN_ARM) for arm in session.config.study.arms], _tasks(session)
    refuse_missing(session, arms, tasks)
    if any(arm.kind == "context" for arm in arms):
        refuse_unlearnable(session, passages_alone(session), tasks)


def _tasks(session: Session) -> tuple[Task, ...]:
    """As many as are wanted, the first ones; where the data gives weights they are drawn by these, as a round's are."""
    section = session.config.study
    tasks = session.domain.tasks(section.split)
    if not tasks:
        raise ConfigError(
            f"study.split: {section.split} has no tasks", hint="raise its share under domain, or study another split"
        )
    learnable.refuse_unasked(tasks)
    learnable.refuse_known(tasks)
    tasks = learnable.asked(tasks)
    if len({t.weight for t in tasks}) > 1:
        tasks = draw(tasks, session.config.run.seed, 1, section.tasks)
    return tuple(tasks[: section.tasks])


def _begun_with(session: Session) -> tuple[Task, ...]:
    """The tasks of a study that has begun: every arm learns the same."""
    begun = session.ledger.round(1).get(ARM)
    if begun is None:
        return _tasks(session)
    by_id = {t.id: t for t in session.domain.tasks(session.config.study.split)}
    gone = [one for one in begun["tasks"] if one not in by_id]
    if gone:
        raise DataError(f"task {gone[0]} of this study is not in the data any more", hint="put the data back")
    return tuple(by_id[one] for one in begun["tasks"])


def run_study(session: Session) -> None:
    section, tasks = session.config.study, _begun_with(session)
    _warn_of_keeping(session)
    _warn_of_drift(session)
    warn_of_objective(session)
    more = skills(session)
    exam = Exam((*tasks, *more), section.open_book, probes=more)
    for number, arm in enumerate((BASE, *section.arms), 1):
        if number > session.ledger.latest():
            session.tick()
            run_arm(session, number, arm, tasks, exam)


def _warn_of_keeping(session: Session) -> None:
    method = session.config.study.keep.method
    if method in OF_EARLIER_STEPS and not session.ledger.latest():
        message = f"study.keep.method: {method} holds on to the steps of a stream before, and a study has none"
        session.tell(Warned(f"{message}: it changes nothing here; `seal-ray stream` learns one after another"))


def _warn_of_drift(session: Session) -> None:
    config = session.config
    if config.gate.mode != "off" and not by_update(config) and not session.ledger.latest():
        message = "gate.max_kl has no say here: drift from the base is not measured of adapters that a bank trains"
        session.tell(Warned(f"{message}; study.where: update measures it"))


def run_arm(session: Session, number: int, name: str, tasks: tuple[Task, ...], exam: Exam) -> None:
    """One arm as a round: its texts, one study, everything asked, the gate."""
    part, arm = session.open_round(number), source(name, OF_AN_ARM)
    part.put(ARM, {"arm": name, "tasks": [t.id for t in tasks]})
    writing = VariedSession(session, arm.configured(session.config)) if arm.settings else session
    edits = writing.config.study.edits
    texts = gather(writing, part, arm, tasks, edits)
    part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(texts.version)})
    session.tell(RoundStarted(len(tasks), texts.version.number, edits))
    if name == BASE:
        once(part, ROW, lambda: _base_row(session, part, texts.version, exam))
        version, decision = texts.version, "studied"
    else:
        pupil = Pupil(PUPIL, lessons_of(writing, texts, tasks), exam, seed_of(session), {})
        once(part, ROW, lambda: _studied(session, part, pupil, texts.version))
        update = part.get("update.json")
        assert update, "a row is written after its version"
        version, decision = _through_gate(session, part, texts.version, decode(Version, update["version"]))
    session.commit(part, version, decision)


def _base_row(session: Session, part: RoundLedger, version: Version, exam: Exam) -> Json:
    trials = study_all(session, part, version, [StudyRequest(PUPIL, None, exam)])
    record(part, trials)
    return row(session, part, [exam], trials)


def _studied(session: Session, part: RoundLedger, pupil: Pupil, parent: Version) -> Json:
    if by_update(session.config):
        _, trials = study_by_update(session, part, pupil, parent)
    else:
        start = start_of(session, parent)
        _, trials = study_in_bank(
            session, part, [Pupil(pupil.name, pupil.lessons, pupil.exam, pupil.seed, start)], parent
        )
    return row(session, part, [pupil.exam], trials)


def _through_gate(session: Session, part: RoundLedger, old: Version, new: Version) -> tuple[Version, str]:
    """The version that the round ends with. A person's word is not waited for: the arm is measured either way."""
    if session.config.gate.mode == "off":
        return new, "accept"

    known = gate_trials.compared(session, part, old, new)
    decision = known["decision"] if known["decision"] != "hold" else known["advice"]
    session.tell(GateDecided(decision, known["figures"], tuple(known["reasons"])))
    return (new if decision == "accept" else old), decision


# reading it


def summary(run: Run) -> dict[str, Json] | None:
    """Every arm that is done: what its tasks and the held-out skills score, against the base; None for other runs."""
    with as_written(run.uri, "the rows of its study"):
        return _summary(run)


def _summary(run: Run) -> dict[str, Json] | None:
    arms: dict[str, Any] = {}
    tasks: set[str] = set()
    for number in run.ledger.rounds():
        part = run.ledger.round(number)
        arm, scored, update = part.get(ARM), part.get(ROW), part.get("update.json") or {}
        if not arm or not scored:
            continue
        tasks |= set(arm["tasks"])
        arms[arm["arm"]] = {
            "scores": scored["rows"][0]["scores"],
            "probe": scored["rows"][0]["probe"],
            "texts": len(update.get("edits", ())),
            "steps": update.get("steps"),
            "seconds": update.get("seconds"),
            "decision": (run.ledger.manifest(number) or {}).get("decision"),
            "version": (update.get("version") or {}).get("number"),
        }
    if BASE not in arms:
        return None
    seed = derive_seed(int(run.record["seed"]), "study")
    names = [(m, asked) for m in ("accuracy", "likelihood", "open_book") for asked in ("tasks", "skills")]
    return {
        "tasks": len(tasks),
        "arms": {name: {k: v for k, v in own.items() if k != "scores"} for name, own in arms.items()},
        "tables": {
            f"{asked} {measure}": _table(arms, measure, tasks, asked == "tasks", seed)
            for measure, asked in names
            if any(_column(own["scores"], measure, tasks, asked == "tasks") for own in arms.values())
        },
    }


def _table(arms: Mapping[str, Any], measure: str, tasks: set[str], learned: bool, seed: int) -> Json:
    columns = {name: _column(own["scores"], measure, tasks, learned) for name, own in arms.items()}
    rows = bootstrap.table(columns, against=BASE, seed=seed)
    return {name: {k: plain(v) for k, v in line.items()} for name, line in rows.items()}


def _column(scores: Mapping[str, Any], measure: str, tasks: set[str], learned: bool) -> dict[str, float]:
    return {t: s[measure] for t, s in scores.items() if (t in tasks) == learned and s[measure] is not None}
