"""What a person is shown of a run in a terminal: its table, its status, one task or candidate from close by."""

import dataclasses
import json
import time
from collections import Counter
from collections.abc import Sequence
from typing import Any

from seal_ray.config import StorageSection
from seal_ray.errors import ConfigError
from seal_ray.event_stream import fields_of
from seal_ray.events import ActorChanged, Event, PhaseEnded, PhaseStarted, RunEnded, RunStarted, WaitingFor, Warned
from seal_ray.loops.history import Round, Run
from seal_ray.observe.arms import TITLES
from seal_ray.observe.tally import PROGRESS
from seal_ray.records import Edit, Json, encode
from seal_ray.storage.flags import as_typed

ONE_COMMAND = {"run", "study", "stream", "evaluate"}  # that runs are begun by

# the table of a run


def show_table(rows: Sequence[dict[str, Any]]) -> str:
    """One line per round and measure, one column per arm."""
    if not rows:
        return "no round has rewards yet"
    out = [f"{'round':>5}  {'closed book':<12}" + "".join(f"{title:>18}" for title in TITLES.values())]
    for row in rows:
        for measure, form in (("accuracy", "{:.1%}"), ("likelihood", "{:.3f}")):
            cells = []
            for arm in TITLES:
                value = (row["arms"].get(arm) or {}).get(measure)
                cells.append(f"{form.format(value['mean'])} ±{form.format(value['error'])}" if value else "-")
            out.append(f"{row['round']:>5}  {measure:<12}" + "".join(f"{c:>18}" for c in cells))
    out.append("likelihood: mean log-probability of a gold answer's token; ±: standard error over tasks")
    out.append("kept edits were chosen by these very trials, so their column flatters them")
    return "\n".join(out)


# how a run is doing


def status(run: Run) -> dict[str, Json]:
    """Where the run is, from its ledger alone; works from any machine while the run is on."""
    events = run.events()
    rounds = [_round_status(r) for r in run.begun()]
    phase = next((e.phase for e in reversed(events) if isinstance(e, (PhaseStarted, PhaseEnded))), None)
    holder = run.ledger.holder()
    current = run.current()
    ended = last_end(events)
    heard = max((e.time for e in events), default=None)
    return {
        "uri": run.uri,
        "command": run.ledger.note().get("command") or None,
        "rounds_wanted": run.rounds_wanted(events),
        "rounds_committed": run.latest,
        "phase": phase,
        "ended": ended.outcome if ended else None,
        "reason": ended.reason if ended else None,
        "held": run.held(),
        "current": current.number if current else None,
        "rollback": run.rollback(),
        "holder": dataclasses.asdict(holder) if holder else None,
        "waiting": _waiting(events) if holder else None,
        "last_event": heard,
        "silent": round(max(0.0, time.time() - heard), 1) if holder and heard else None,
        "rounds": rounds,
        "workers": _workers(events),
        "warnings": [e.message for e in events if isinstance(e, Warned)][-10:],
    }


def last_end(events: Sequence[Event]) -> RunEnded | None:
    """How the last driver ended; None while one has begun and told no end."""
    last = next((e for e in reversed(events) if isinstance(e, (RunEnded, RunStarted))), None)
    return last if isinstance(last, RunEnded) else None


def _waiting(events: Sequence[Event]) -> str | None:
    """What the driver has said it waits for, unless something has come of it since."""
    last = next((e for e in reversed(events) if isinstance(e, (WaitingFor, *PROGRESS))), None)
    return f"{last.what}: {last.missing}" if isinstance(last, WaitingFor) else None


def _round_status(round_: Round) -> dict[str, Json]:
    lost = Counter(t.failure.kind for t in round_.trials if t.failure)
    lost.update(f"edit: {e.failure.kind}" for e in round_.edits if e.failure)
    sample = {t.failure.kind: t.failure.message for t in round_.trials if t.failure}
    tried = {t.candidate for t in round_.trials}
    seconds = [t.cost.seconds for t in round_.trials if not t.failure]
    return {
        "round": round_.number,
        "committed": round_.committed,
        "tasks": len(round_.tasks),
        "task_ids": [t.id for t in round_.tasks],
        "edits": len(round_.edits),
        "candidates": len(round_.candidates),
        "trials": len(round_.trials),
        "waiting": sum(c.id not in tried for c in round_.candidates),
        "verdicts": len(round_.verdicts),
        "seconds_per_trial": round(sum(seconds) / len(seconds), 3) if seconds else None,
        "failed": dict(lost),
        "failed_because": sample,
        "kept": len(round_.kept),
        "version": round_.version.number if round_.version else None,
        "decision": (round_.manifest or {}).get("decision"),
    }


def _workers(events: Sequence[Event]) -> dict[str, Json]:
    last: dict[str, Json] = {}
    for event in events:
        if isinstance(event, RunStarted):
            last = {}
        elif isinstance(event, ActorChanged):
            last[event.worker] = fields_of(event)
    return last


def show_status(run: dict[str, Any], storage: StorageSection | None = None) -> str:
    """`storage`: how the run was reached."""
    wanted = f" of {run['rounds_wanted']}" if run["rounds_wanted"] else ""
    out = [f"{run['uri']}: {run['rounds_committed']}{wanted} rounds committed"]
    if run["held"]:
        at = as_typed(run["uri"], storage or StorageSection())
        out.append(f"round {run['held']} waits for a person's word: `seal-ray approve {at}`, or `reject`")
    if run["ended"]:
        out.append(f"ended: {run['ended']}" + (f" ({run['reason']})" if run["reason"] else ""))
    elif run["holder"]:
        silent = "" if run["silent"] is None else f", silent for {run['silent']:.0f} s"
        out.append(f"driven by {run['holder']['owner']}, phase {run['phase']}{silent}")
        out += [f"waiting for {run['waiting']}"] if run["waiting"] else []
    else:
        began = run["command"] if run["command"] in ONE_COMMAND else ""
        again = f"`seal-ray {began}` with its configuration" if began else "the command that began it"
        out.append(f"nobody drives it; it stopped in phase {run['phase']}; {again} goes on")
    if back := run["rollback"]:
        why = f": {back['why']}" if back["why"] else ""
        out.append(f"version {run['current']} is current, {back['by']} went back to it{why}")
    elif run["current"] is not None:
        out.append(f"version {run['current']} is current")
    for r in run["rounds"]:
        state = f"committed, {r['decision']}" if r["committed"] else "open"
        out.append(
            f"round {r['round']} ({state}): {r['tasks']} tasks, {r['edits']} edits, "
            f"{r['trials']} of {r['candidates']} candidates tried, {r['verdicts']} verdicts, {r['kept']} kept"
            + (f", {r['seconds_per_trial']} s a trial" if r["seconds_per_trial"] else "")
        )
        for kind, count in r["failed"].items():
            why = r["failed_because"].get(kind)
            out.append(f"    {count} failed: {kind}" + (f", like: {why}" if why else ""))
    for name, worker in run["workers"].items() if run["holder"] else ():
        if worker["state"] != "released":
            out.append(f"{name}: {worker['state']} on {worker['node']} {worker['reason']}".rstrip())
    out += [f"warning: {w}" for w in run["warnings"]]
    return "\n".join(out)


# one thing from close by


def inspect(run: Run, *, task: str = "", candidate: str = "", number: int = 0) -> dict[str, Json]:
    """A task with its edits, or one candidate, with all that the ledger knows of it."""
    numbers = [number] if number else run.ledger.rounds()
    for n in reversed(numbers):
        round_ = run.round(n)
        if task and any(t.id == task for t in round_.tasks):
            return _task(round_, task)
        matching = [c for c in round_.candidates if candidate and c.id.startswith(candidate)]
        if len(matching) > 1:
            raise ConfigError(f"{candidate} is how {len(matching)} candidates begin", hint="give more of it")
        if matching:
            return {"round": n} | _candidate(round_, matching[0].id)
    what = f"task {task}" if task else f"candidate {candidate}"
    where = f"not in round {number}" if number else "in no round"
    at = as_typed(run.uri, run.storage)
    raise ConfigError(f"{what} is {where} of {run.uri}", hint=f"`seal-ray status {at} --json` lists tasks")


def _task(round_: Round, task_id: str) -> dict[str, Json]:
    task = next(t for t in round_.tasks if t.id == task_id)
    rewards = {r["edit"]: r for r in (round_.rewards or {}).get("rewards", [])}
    chosen = {c.edit: c for c in round_.choices}

    def edit(e: Edit) -> dict[str, Json]:
        mine = [c.id for c in round_.candidates if c.edit == e.id]
        return {
            "slot": e.slot,
            "id": e.id,
            "style": e.style,
            "text": e.text,
            "failure": encode(e.failure),
            "reward": rewards.get(e.id),
            "chosen": chosen[e.id].reason if e.id in chosen else None,
            "weight": chosen[e.id].weight if e.id in chosen else None,
            "candidates": [_candidate(round_, c) for c in mine],
        }

    alone = [c.id for c in round_.candidates if c.task == task_id and c.edit is None]
    return {
        "round": round_.number,
        "task": encode(task),
        "edits": [edit(e) for e in round_.edits if e.task == task_id],
        "without_edit": [_candidate(round_, c) for c in alone],
    }


def _candidate(round_: Round, candidate_id: str) -> dict[str, Json]:
    candidate = next(c for c in round_.candidates if c.id == candidate_id)
    trial = next((t for t in round_.trials if t.candidate == candidate_id), None)
    return {
        "candidate": encode(candidate),
        "trial": encode(trial),
        "verdicts": [encode(v) for v in round_.verdicts if v.candidate == candidate_id],
    }


def show_inspection(shown: dict[str, Any]) -> str:
    if "task" not in shown:
        return "\n".join([f"round {shown['round']}", *_candidate_lines(shown, "")])
    task = shown["task"]
    out = [f"round {shown['round']}, task {task['id']}"]
    out += [f"  {k}: {_short(v)}" for k, v in task["data"].items()]
    for alone in shown["without_edit"]:
        out += _candidate_lines(alone, "  ")
    for e in shown["edits"]:
        reward = e["reward"]["value"] if e["reward"] else None
        worth = f"reward {reward['mean']:+.3f} ±{reward['error']:.3f}" if reward else "no reward"
        fate = "" if e["weight"] is None else f"  {'KEPT' if e['weight'] > 0 else 'TAUGHT AWAY FROM'}: {e['chosen']}"
        out.append(f"edit {e['slot']} ({e['style'] or 'no style'}), {worth}{fate}")
        if e["failure"]:
            out.append(f"  failed: {e['failure']['kind']}: {e['failure']['message']}")
        out += [f"  | {line}" for line in e["text"].splitlines()]
        for candidate in e["candidates"]:
            out += _candidate_lines(candidate, "  ")
    return "\n".join(out)


def _candidate_lines(tried: dict[str, Any], pad: str) -> list[str]:
    candidate, trial = tried["candidate"], tried["trial"]
    head = f"{pad}{candidate['kind']} repeat {candidate['repeat']} ({candidate['id'][:12]})"
    if not trial:
        return [f"{head}: not tried yet"]
    if trial["failure"]:
        return [f"{head}: failed: {trial['failure']['kind']}: {trial['failure']['message']}"]
    losses = trial["losses"]
    curve = f"loss {losses[0]:.2f} to {losses[-1]:.2f} in {len(losses)} steps" if losses else "not trained"
    out = [f"{head}: {curve}, {trial['cost']['seconds']:.1f} s on {trial['worker']}"]
    says = {v["question"]: v for v in tried["verdicts"]}
    asked = {a["question"] for a in trial["answers"]}
    for answer in trial["answers"]:
        mark = _mark(says[answer["question"]]) if answer["question"] in says else ""
        out.append(f"{pad}  {mark:<6} {answer['question']}: {answer['text']!r}")
    # a verdict may rest on several answers, as that of a vote does
    out += [f"{pad}  {_mark(v):<6} {v['question']} as a whole" for v in tried["verdicts"] if v["question"] not in asked]
    return out


def _mark(verdict: dict[str, Json]) -> str:
    return "?" if verdict["correct"] is None else "right" if verdict["correct"] else "wrong"


def _short(value: Json, limit: int = 400) -> str:
    """A text as it is, anything else as JSON of one line."""
    if isinstance(value, str):
        return value
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= limit else f"{text[:limit]} … ({len(text)} characters)"
