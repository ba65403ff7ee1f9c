"""Can tests that a model writes for itself stand in for those of people? Edits of passages, judged by both.

    python jobs/bench_probe.py published_edits_dev.json     the same again goes on where it stopped
    python jobs/bench_probe.py published_edits_dev.json --show

The file holds passages with questions of people and edits. One run of four rounds:
 1. the frozen base writes questions about each passage, as `seal-ray probe` does, and they are checked;
 2. questions of people, some of them spoiled on purpose (a false answer, the answer given away, two right answers), go
    through the same checks: how many of the spoiled ones are found, and how many good ones are lost with them;
 3. every edit is trained, and both kinds of questions are asked: how the edits rank by one and by the other, and what
    the edit that the model's own questions choose loses when people's judge it;
 4. lines of edits are made false on purpose: what the check of lines finds, what they cost, what it gives back.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import false_lines
from probe_figures import Judged, figures, shown

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.domains.distractors import kind_of
from seal_ray.events import RoundStarted
from seal_ray.grading.measure import question_likelihoods
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.explore import explore
from seal_ray.loops.exploring.plan import Plan
from seal_ray.loops.probe import QuestionSet, every_task, make_tests
from seal_ray.loops.probing.prompts import answers_in
from seal_ray.loops.probing.validation import validate
from seal_ray.loops.session import Session, hire, once
from seal_ray.policy import versions
from seal_ray.records import Edit, Json, ProbeQuestion, Task, Version, digest, encode
from seal_ray.storage.ledger import RoundLedger

WRITTEN, SPOILED, TRIED, FALSE = 1, 2, 3, 4  # rounds
SALT = 3
# what becomes of the questions of people in round 2, in turn
ROLES = ("good", "false", "good", "leak", "good", "two")
WORDS = {"number": "number", "name": "name"}
# `documents` with whole passages, each taken as it stands
SETTINGS = (
    "domain.passage_tokens=5000", "domain.near_copies=1", "domain.instructions=keep", "domain.max_texts=12",
    "inner.epochs=4", "inner.repeats=2", "grading.reward=likelihood",
)  # fmt: skip


# what is given


def given(path: Path, count: int, longest: int) -> list[dict[str, Any]]:
    """So many passages with three questions or more, of as many titles as there are, in an order of their own."""
    rows = [_row(r) for r in json.loads(path.read_text(encoding="utf-8"))]
    rows = [r for r in rows if len(r["context"]) <= longest and len(r["questions"]) > 2 and len(r["edits"]) > 1]
    rows.sort(key=lambda r: digest([r["title"], r["context"]]))
    firsts = {r["title"]: n for n, r in reversed(list(enumerate(rows)))}
    order = sorted(range(len(rows)), key=lambda n: (firsts[rows[n]["title"]] != n, n))
    return [rows[n] for n in order[:count]]


def _row(row: dict[str, Any]) -> dict[str, Any]:
    """One passage, from questions as pairs or objects and edits by name or in a list."""
    pairs = [q if isinstance(q, list) else [q["question"], q["answer"]] for q in row["questions"]]
    edits = row["edits"].values() if isinstance(row["edits"], dict) else [e["text"] for e in row["edits"]]
    context = " ".join(row["context"].split())
    return {"title": row["title"], "context": context, "questions": pairs, "edits": list(dict.fromkeys(edits))}


def configured(rows: Sequence[dict[str, Any]], to: Path, overrides: Sequence[str]) -> Config:
    """The passages as documents without questions, and a run beside them."""
    docs = to / "docs"
    docs.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        (docs / f"{number:03d}.md").write_text(f"# {row['title']}\n\n{row['context']}\n", encoding="utf-8")
    own = [config_file.assignment("domain.data", str(docs)), config_file.assignment("run.uri", str(to / "run"))]
    return config_file.load(config_file.DOCUMENTS, [*own, *SETTINGS, *overrides])


# the rounds


def go(rows: Sequence[dict[str, Any]], config: Config, hire: Any = hire) -> dict[str, Json]:
    """All rounds, as far as they are not in the ledger yet, and what they come to."""
    with Session(config, hire=hire) as session:
        base = versions.first(session.base)
        tasks = every_task(session)
        row_of = {t.id: rows[int(str(t.data["document"]).removesuffix(".md"))] for t in tasks}
        part = session.open_round(WRITTEN)
        tests = make_tests(session, part, tasks)
        session.commit(part, base, "probed")
        spoiled = check_spoiled(session, base, tasks, row_of)
        judged = try_edits(session, base, tests, tasks, row_of)
        false = try_false_lines(session, base, tasks, row_of)
    return figures(tests.funnel, spoiled, judged, config.run.seed) | {"false_lines": false}


def check_spoiled(session: Session, base: Version, tasks: Sequence[Task], row_of: dict[str, Any]) -> list[Json]:
    """Round 2: each question with what was done to it, and the first check that it failed."""
    part = session.open_round(SPOILED)
    part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(base)})
    session.tell(RoundStarted(len(tasks), base.number, 0))
    asked, roles = list[ProbeQuestion](), dict[str, str]()
    for task in tasks:
        for question, answer in row_of[task.id]["questions"]:
            made, role = spoil(task, question, answer, ROLES[len(asked) % len(ROLES)])
            asked.append(made)
            roles[made.id] = role

    def checked() -> Json:
        with session.phase("probe"):
            kept, checks = validate(session, part, base, {t.id: t for t in tasks}, asked)
        for question in asked:
            part.append("questions", question)
        first: dict[str, str] = {}
        for row in checks:
            part.append("checks", row)
            if row.passed is False:
                first.setdefault(row.question, row.name)
        standing = {v.question.id for v in kept}
        return [
            {"role": roles[q.id], "kept": q.id in standing, "by": first.get(q.id), "question": q.question}
            for q in asked
        ]

    known = once(part, "spoiled.json", checked)
    session.commit(part, base, "checked")
    return known


def spoil(task: Task, question: str, answer: str, role: str) -> tuple[ProbeQuestion, str]:
    """A question of a person as one that a model might have written, spoiled as its role says where that can be."""
    alike = [a for a in answers_in(task.data["title"], task.data["context"]) if kind_of(a) == kind_of(answer)]
    others = [a for a in alike if a.casefold() not in answer.casefold() and answer.casefold() not in a.casefold()]
    if role == "leak":
        question = f"{question.strip().rstrip('?')}, which is {answer}?"
    elif role == "false" and others:
        answer = others[0]
    elif role == "two" and others and kind_of(answer) in WORDS:
        question = f"Which {WORDS[kind_of(answer)]} has to do with {task.data['title']}?"
    else:
        role = "good"
    name = digest([task.id, role, question, answer])[:24]
    return ProbeQuestion(name, task.id, question, (answer,), "model", style=kind_of(answer)), role


def try_edits(
    session: Session, base: Version, tests: QuestionSet, tasks: Sequence[Task], row_of: dict[str, Any]
) -> list[Judged]:
    """Round 3: what each trial did, question by question. People's questions come first, then the model's own."""
    part = session.open_round(TRIED)
    own = {t.id: list(t.data["questions"]) for t in tests.tasks}
    both, edits = list[Task](), list[Edit]()
    for task in tasks:
        people = [{"question": q, "answers": [a]} for q, a in row_of[task.id]["questions"]]
        if own.get(task.id):
            both.append(replace(task, data={**task.data, "questions": [*people, *own[task.id]]}))
            edits += [_edit(task, base, slot, text) for slot, text in enumerate(row_of[task.id]["edits"])]
    return _all_judged(session, part, base, both, edits, row_of)


def _all_judged(
    session: Session,
    part: RoundLedger,
    base: Version,
    tasks: Sequence[Task],
    edits: Sequence[Edit],
    row_of: dict[str, Any],
) -> list[Judged]:
    """Every edit trained, and the questions of its task asked."""
    part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(base)})
    session.tell(RoundStarted(len(tasks), base.number, 0))
    judged: list[Judged] = []
    if tasks:
        repeats, given = session.config.inner.repeats, tuple(edits)
        plan = Plan(tuple(tasks), base, edits=0, repeats=repeats, context_arm=False, salt=SALT, given=given)
        exploration = explore(session, part, plan)
        judged = [one for task in tasks for one in _judged(exploration, task, len(row_of[task.id]["questions"]))]
    session.commit(part, base, "tried")
    return judged


def try_false_lines(session: Session, base: Version, tasks: Sequence[Task], row_of: dict[str, Any]) -> dict[str, Json]:
    """Round 4: of each passage one edit in three forms, judged by people's questions."""
    part, seed = session.open_round(FALSE), session.config.run.seed
    facts = [a for task in tasks for _, a in row_of[task.id]["questions"]]
    planted, asked, edits, arms = list[false_lines.Planted](), list[Task](), list[Edit](), dict[str, str]()
    for task in tasks:
        title, context = task.data["title"], task.data["context"]
        forms = (false_lines.plant(e, title, context, facts, seed) for e in reversed(row_of[task.id]["edits"]) if e)
        made = next((form for form in forms if form), None)
        if made is None:
            continue
        planted.append(made)
        people = [{"question": q, "answers": [a]} for q, a in row_of[task.id]["questions"]]
        asked.append(replace(task, data={**task.data, "questions": people}))
        for slot, arm in enumerate(false_lines.ARMS):
            edits.append(_edit(task, base, slot, made.lines(arm)))
            arms[edits[-1].id] = arm
    judged = _all_judged(session, part, base, asked, edits, row_of)
    return false_lines.figures(planted, arms, judged, seed)


def _edit(task: Task, base: Version, slot: int, text: str | list[str]) -> Edit:
    """An empty text is the passage alone."""
    name = digest(["bench", task.id, slot, text])[:32]
    whole = text if isinstance(text, str) else "\n".join(text)
    return Edit(name, task.id, slot, base.digest, 0, (), (), (), whole, "stop", text or None)


def _judged(exploration: Exploration, task: Task, people: int) -> list[Judged]:
    made = []
    for name, trial in sorted(exploration.trials.items()):
        candidate = exploration.candidates[name]
        if trial.task != task.id or trial.failure:
            continue
        likely = question_likelihoods(trial)
        credit = {v.question: v.credit for v in exploration.verdicts.get(name, []) if v.credit is not None}
        by_people = {f"{task.id}#{n}" for n in range(people)}
        made.append(Judged(task.id, candidate.edit, candidate.repeat, likely, credit, frozenset(by_people)))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description="tests that a model writes for itself beside those of people")
    parser.add_argument("data", type=Path, help="JSON: passages with questions and edits")
    parser.add_argument("--to", type=Path, default=Path("runs/bench-probe"), help="folder for the run and the figures")
    parser.add_argument("--passages", type=int, default=8)
    parser.add_argument("--longest", type=int, default=900, help="characters of a passage, at most")
    parser.add_argument("--set", action="append", default=[], dest="overrides", help="as `seal-ray run --set`")
    parser.add_argument("--show", action="store_true", help="the figures of a run that is done")
    asked = parser.parse_args()
    figures_at = asked.to / "figures.json"
    if not asked.show:
        rows = given(asked.data, asked.passages, asked.longest)
        found = go(rows, configured(rows, asked.to, asked.overrides))
        figures_at.write_text(json.dumps(found, indent=1) + "\n")
    told = json.loads(figures_at.read_text())
    print(*shown(told), "", *false_lines.shown(told["false_lines"]), sep="\n")


if __name__ == "__main__":
    main()
