"""Arms side by side on the same tasks: no training, the context alone, edits from here and there.

An evaluation is kept like a run: each arm is a round in its ledger, so it resumes, verifies and reports like one.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from seal_ray.config import Config, StorageSection
from seal_ray.domains import Teller
from seal_ray.domains.base import Domain
from seal_ray.errors import ArgumentError, DataError, InfraError
from seal_ray.events import RoundStarted
from seal_ray.grading.reward import RoundRewards
from seal_ray.loops.arm import USAGE, Arm
from seal_ray.loops.arm_cost import ArmCost, arm_cost
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.explore import explore, sample
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.history import find_version
from seal_ray.loops.learnable import refuse_unasked
from seal_ray.loops.rewarding import settle
from seal_ray.loops.session import Session
from seal_ray.loops.teachers import teacher_endpoint
from seal_ray.loops.varied_session import VariedSession
from seal_ray.policy import bootstrap, versions
from seal_ray.records import Edit, Estimate, Failure, Json, Split, Task, Version, derive_seed, digest, encode
from seal_ray.storage.input_files import read_document
from seal_ray.storage.ledger import RoundLedger

SALT = 1  # the same in every arm: the arms of a task sample and train with the same seeds

Scores = dict[str, dict[str, list[float]]]  # by measure and task, one for each edit


def evaluate(
    config: Config,
    arms: Sequence[str],
    *,
    split: Split = "test",
    stop: Callable[[], bool] = lambda: False,
    on_stop: Callable[[Callable[[], None]], None] = lambda wind_up: None,
) -> dict[str, Json]:
    """Run the arms and compare each with the first one, by paired bootstrap over tasks."""
    named = [Arm.of(arm) for arm in arms]
    for arm in named:
        arm.configured(config)  # a setting that can't be had is found before anything is tried

    def check(session: Session) -> None:
        refuse_unasked(session.domain.tasks(split))
        refuse_missing(session, named, _tasks(session, split))

    with Session(config, stop=stop, on_stop=on_stop, check=check, command="evaluate") as session:
        tasks = _tasks(session, split)
        done = {arm.name: run_arm(session, number, arm, tasks) for number, arm in enumerate(named, 1)}
    scores = {arm: own for arm, (own, _) in done.items()}
    seed = derive_seed(config.run.seed, "evaluate")
    tables = {
        measure: bootstrap.table({arm: own[measure] for arm, own in scores.items()}, against=arms[0], seed=seed)
        for measure in ("accuracy", "likelihood")
    }
    readable = {
        measure: {arm: {k: plain(v) for k, v in row.items()} for arm, row in table.items()}
        for measure, table in tables.items()
    }
    costs = {arm: encode(cost) for arm, (_, cost) in done.items()}
    return {"uri": config.run.uri, "against": arms[0], "tables": readable, "costs": costs}


def _tasks(session: Session, split: Split) -> tuple[Task, ...]:
    tasks = tuple(session.domain.tasks(split))[: session.config.run.tasks_per_round]
    if len(tasks) < 2:
        raise ArgumentError(
            f"the split {split} has {len(tasks)} tasks, and a comparison needs 2",
            hint="raise its share under domain, or evaluate another split",
        )
    return tasks


def run_arm(session: Session, number: int, arm: Arm, tasks: tuple[Task, ...]) -> tuple[Scores, ArmCost]:
    """One arm as a round of the ledger."""
    part = session.open_round(number)
    version = arm_version(session, arm)
    part.put("arm.json", {"arm": arm.name})
    part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(version)})
    if arm.settings:
        session = VariedSession(session, arm.configured(session.config))
    edits = 0 if arm.kind in {"none", "context"} else session.config.sampling.edits
    session.tell(RoundStarted(len(tasks), version.number, edits))
    given = given_edits(session, arm, tasks, version, part, edits)
    plan = Plan(
        tasks,
        version,
        edits=edits,
        repeats=0 if arm.kind == "none" else session.config.inner.repeats,
        context_arm=arm.kind == "context",
        salt=SALT,
        given=given,
    )
    written = given
    if arm.joined:
        if written is None:
            sampled = sample(session, part, plan)
            written = tuple(edit for task in tasks for edit in sampled.get(task.id, ()))
        plan = replace(plan, given=_joined(arm, tasks, written, version))
    exploration = explore(session, part, plan)
    rewarded = settle(session, part, exploration)
    session.commit(part, version, "evaluated")
    return _scores(arm.kind, rewarded), _cost(session, exploration, written)


def _joined(arm: Arm, tasks: Sequence[Task], edits: Sequence[Edit], version: Version) -> tuple[Edit, ...]:
    """For each task one edit that holds the texts of all: a passage is learned from many samples at once."""
    made = []
    for task in tasks:
        own = sorted((e for e in edits if e.task == task.id), key=lambda e: e.slot)
        texts: list[str] = []
        for edit in own:
            content = edit.content if isinstance(edit.content, list) else [edit.content]
            if not edit.failure and not all(isinstance(text, str) for text in content):
                raise ArgumentError(
                    f"--arm {arm.name}: only edits that are texts can be joined", hint="leave joined: out"
                )
            texts += [] if edit.failure else content
        failure = None if texts else Failure("no_text", f"none of its {len(own)} edits can be trained on")
        name = digest([arm.name, [e.id for e in own]])[:32]
        whole = "\n---\n".join(texts)
        made.append(Edit(name, task.id, 0, version.digest, 0, (), (), (), whole, "stop", texts or None, failure))
    return tuple(made)


def _cost(session: Session, exploration: Exploration, written: Sequence[Edit] | None) -> ArmCost:
    edits = written or [e for own in exploration.edits.values() for e in own]
    own = [t for c, t in sorted(exploration.trials.items()) if exploration.candidates[c].kind != "baseline"]
    return arm_cost(edits, own, session.tokenizer)


def refuse_missing(session: Session, arms: Sequence[Arm], tasks: Sequence[Task]) -> None:
    """Before the first of these arms takes its hours: what the last one needs of other runs, files and servers."""
    for arm in arms:
        version = arm_version(session, arm)
        if arm.kind == "file":
            own = VariedSession(session, arm.configured(session.config)) if arm.settings else session
            edits_from_file(own.domain, own.config.storage, arm.where, tasks, version)
        elif arm.kind == "teacher":
            _teacher(arm.where)


def given_edits(
    session: Session, arm: Arm, tasks: Sequence[Task], version: Version, part: RoundLedger, edits: int
) -> tuple[Edit, ...] | None:
    """The edits of an arm that has them from elsewhere, of a teacher so many of a task; None where its version writes
    them."""
    if arm.kind == "file":
        return edits_from_file(session.domain, session.config.storage, arm.where, tasks, version)
    return _from_teacher(session, arm.where, tasks, version, part, edits) if arm.kind == "teacher" else None


def arm_version(session: Session, arm: Arm) -> Version:
    """The version that an arm begins with."""
    if arm.kind != "version":
        return versions.first(session.base)
    version, source = find_version(arm.where, session.config.storage)
    if version.base != session.base:
        raise ArgumentError(
            f"{arm.name}: it stands on another base model ({version.base[:12]}, and this run has {session.base[:12]})",
            hint=f"set model.name and model.revision as in {source.uri}",
        )
    return session.borrow(version, source.ledger)


def edits_from_file(
    domain: Domain, storage: StorageSection, where: str, tasks: Sequence[Task], version: Version
) -> tuple[Edit, ...]:
    """A list of {task or context, KEY: edit or edits}, or with KEY one level down under `edits`.

    `task` is a task's id, `context` a passage. An empty edit is the context alone.
    """
    path, _, key = where.partition("#")
    try:
        rows = json.loads(read_document(path, storage))
        named = [(row, row["edits"] if isinstance(row.get("edits"), dict) else row) for row in rows]
        own = [(row, edits[key]) for row, edits in named if key in edits]
        written = {row[name]: edits for row, edits in own for name in ("context", "task") if row.get(name)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no list of tasks with edits under {key!r} ({error})", hint=f"use {USAGE}") from None
    edits = []
    for task in tasks:
        own = written.get(task.id, written.get(task.data.get("context")))
        if own is None:
            raise DataError(f"{path}: no edits under {key!r} for task {task.id}", hint="give its id as `task`")
        for slot, value in enumerate(own if isinstance(own, list) else [own]):
            name = digest([path, key, task.id, slot, value])[:32]
            text = value if isinstance(value, str) else json.dumps(value)
            content = _written(domain, task, value, text, path)
            edits.append(Edit(name, task.id, slot, version.digest, 0, (), (), (), text, "stop", content))
    return tuple(edits)


def _written(domain: Domain, task: Task, value: Json, text: str, path: str) -> Json:
    """What an edit in a file comes to. A text that is trained on as texts is taken as it stands."""
    if not value:
        return None
    if isinstance(value, str) and Teller(domain).texts(task, text):
        return text
    content = domain.parse(task, text)
    if isinstance(content, Failure):
        raise DataError(f"{path}: an edit of task {task.id}: {content.message}", hint="write it as the policy would")
    return content


def _from_teacher(
    session: Session, where: str, tasks: Sequence[Task], version: Version, part: RoundLedger, edits: int
) -> tuple[Edit, ...]:
    """Edits by another model, asked as the policy would be. What it wrote is kept, and never asked for again."""
    url, model = _teacher(where)
    known: dict[str, Edit] = part.records("edits")
    wanted = [(t, slot) for t in tasks for slot in range(edits)]
    names = {(t.id, slot): digest([where, t.digest, slot])[:32] for t, slot in wanted}
    missing, size = [(t, slot) for t, slot in wanted if names[t.id, slot] not in known], session.config.probe.chunk
    lost = ""
    endpoint = teacher_endpoint(url, model, session.config.grading)
    try:
        for chunk in [missing[start : start + size] for start in range(0, len(missing), size)]:
            session.tick()
            texts = endpoint.ask([_asked(session, t, slot) for t, slot in chunk], lambda reply: reply.text)
            for (task, slot), text in zip(chunk, texts, strict=True):
                if isinstance(text, Failure):
                    lost = text.message
                    continue
                known[names[task.id, slot]] = edit = _taught(session, task, slot, text, names[task.id, slot], version)
                part.append("edits", edit)
            session.ledger.flush()
    finally:
        endpoint.close()
    if lost:
        raise InfraError(f"{url}: not all edits could be had: {lost}", hint="the same command asks for what is missing")
    return tuple(known[names[t.id, slot]] for t, slot in wanted)


def _taught(session: Session, task: Task, slot: int, text: str, name: str, version: Version) -> Edit:
    content = session.domain.parse(task, text)
    edit = Edit(name, task.id, slot, version.digest, 0, (), (), (), text, "stop")
    return replace(edit, failure=content) if isinstance(content, Failure) else replace(edit, content=content)


def _teacher(where: str) -> tuple[str, str]:
    """Its endpoint and its model."""
    url, _, model = where.partition("#")
    if not (url and model):
        raise ArgumentError(f"--arm teacher:{where}: no endpoint and model", hint="write it as teacher:URL#MODEL")
    return url, model


def _asked(session: Session, task: Task, slot: int) -> Json:
    """An edit request as a chat."""
    ask, section = session.domain.edit_request(task, slot), session.config.sampling
    schema = {"name": "edit", "schema": ask.schema}
    form = {"response_format": {"type": "json_schema", "json_schema": schema}} if ask.schema else {}
    turns = [{"role": "system", "content": ask.prompt.system}] if ask.prompt.system else []
    return {
        "messages": [*turns, {"role": "user", "content": ask.prompt.text}],
        "temperature": section.temperature if ask.temperature is None else ask.temperature,
        "top_p": section.top_p if ask.top_p is None else ask.top_p,
        "max_tokens": section.max_tokens if ask.max_tokens is None else ask.max_tokens,
        "seed": derive_seed(session.config.run.seed, task.id, slot, "teacher"),
        **form,
    }


def _scores(kind: str, rewarded: RoundRewards) -> Scores:
    """Accuracy and likelihood by task: of the baseline, the context alone, or each edit."""
    out: Scores = {"accuracy": {}, "likelihood": {}}

    def add(task: str, accuracy: Estimate | None, likelihood: Estimate | None) -> None:
        for name, value in (("accuracy", accuracy), ("likelihood", likelihood)):
            if value is not None:
                out[name].setdefault(task, []).append(value.mean)

    if kind in {"none", "context"}:
        wanted = "baseline" if kind == "none" else "context"
        for score in rewarded.scores:
            if score.kind == wanted:
                add(score.task, score.accuracy, score.likelihood)
    else:
        for reward in rewarded.rewards:
            add(reward.task, reward.accuracy, reward.likelihood)
    return out


def plain(value: Any) -> Json:
    """An estimate or a difference as JSON; a number that JSON lacks is null."""
    if not hasattr(value, "__dataclass_fields__"):
        return value
    return {k: (v if v == v and abs(v) != float("inf") else None) for k, v in asdict(value).items()}
