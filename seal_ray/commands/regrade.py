"""Other graders for a run that is there: every answer is graded again from the ledger, without a GPU.

A round that is open and was graded with the same settings gets the verdicts that it misses, so that the run goes on.
Anything else leaves the run's own rewards as they are, and is written beside them under `regrades/`.
"""

import json
import os
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from typing import Any

from seal_ray import config_file, grading, models
from seal_ray.config import CodeDomain, Config, PluginDomain
from seal_ray.domains import configured
from seal_ray.domains.guarded import GuardedDomain
from seal_ray.errors import ConfigError
from seal_ray.grading.reward import RoundRewards, rewards
from seal_ray.grading.votes import Votes
from seal_ray.loops.history import Round, Run, as_written
from seal_ray.loops.voting import count_votes
from seal_ray.policy import select
from seal_ray.records import Json, Task, Trial, Verdict, digest, encode
from seal_ray.storage.ledger import Ledger
from seal_ray.storage.store import Store

AT_ONCE = 8  # trials whose answers are graded side by side


def regrade(run: Run, overrides: Sequence[str] = ()) -> dict[str, Json]:
    """Grade every round again. `overrides` are settings of the grading section, as `--set` takes them."""
    was = run.config
    config = config_file.resolved(run.record["config"], overrides)
    if config.model_copy(update={"grading": was.grading}) != was:
        raise ConfigError("only settings of grading can be changed here", hint="like --set grading.grader=exact")
    if config.grading.reward in {"rubric", "predicted"}:
        message = f"grading.reward: {config.grading.reward} rates edits and no answers"
        raise ConfigError(message, hint="choose another reward")
    domain = configured(config, _chat(config))
    grader = grading.build(config.grading, run.uri, run.storage)
    folder = f"regrades/{grader.name}-{digest(encode(config.grading.model_dump(mode='json')))[:12]}"
    store = Store(run.uri, run.storage)
    rounds: list[Json] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for recorded in run.rounds():
            tasks = {t.id: t for t in recorded.tasks}

            def ask(trial: Trial, tasks: dict[str, Task] = tasks) -> Sequence[Verdict]:
                return domain.verdicts(tasks[trial.task], trial.candidate, trial.answers, grader)

            trials = [t for t in recorded.trials if not t.failure and t.task in tasks and t.answers]
            verdicts = [v for own in pool.map(ask, trials) for v in own]
            if not recorded.committed and config.grading == was.grading:
                rounds.append(_fill(run, recorded, verdicts))
                continue
            votes = _votes(domain, recorded, config)
            document = _graded(recorded, trials, verdicts, config, votes)
            store.write(f"{folder}/{recorded.number:04d}.json", json.dumps(document, ensure_ascii=False).encode())
            rounds.append(_compared(recorded, verdicts, document))
    return {
        "uri": run.uri,
        "grader": grader.name,
        "folder": f"{run.uri.rstrip('/')}/{folder}" if any(not r["open"] for r in rounds) else None,
        "dollars": getattr(grader, "dollars", 0.0),
        "rounds": rounds,
    }


def _chat(config: Config) -> bool:
    """Whether the model was spoken to in its chat template, where answers are read otherwise then."""
    section = config.model
    if section.chat != "auto" or not isinstance(config.domain, CodeDomain | PluginDomain):
        return section.chat == "yes"
    return models.has_chat_template(models.describe(section, config.storage).folder)


def _fill(run: Run, recorded: Round, verdicts: Sequence[Verdict]) -> dict[str, Json]:
    """Verdicts that an open round misses go into it; of a candidate all or none: what is lost is asked for again."""
    known = {v.id for v in recorded.verdicts}
    lost = {v.candidate for v in verdicts if v.failure and v.failure.blame == "infra"}
    new = [v for v in verdicts if v.id not in known and v.candidate not in lost]
    if new:
        ledger = Ledger(run.uri, run.storage)
        try:
            ledger.acquire(f"{socket.gethostname()}:{os.getpid()}")
            part = ledger.round(recorded.number)
            for _, own in groupby(new, key=lambda verdict: verdict.candidate):
                part.append_together("verdicts", list(own))
            ledger.flush()
        finally:
            ledger.close()
    return {
        "round": recorded.number,
        "open": True,
        "verdicts": len(verdicts),
        "new": len(new),
        "failed": sum(v.failure is not None for v in verdicts),
    }


def _votes(domain: GuardedDomain, recorded: Round, config: Config) -> Votes | None:
    if config.grading.reward != "vote":
        return None
    return count_votes(domain, recorded.tasks, recorded.candidates, recorded.trials)


def _graded(
    recorded: Round, trials: Sequence[Trial], verdicts: Sequence[Verdict], config: Config, votes: Votes | None
) -> dict[str, Any]:
    tasks = {t.id for t in recorded.tasks}
    candidates = [c for c in recorded.candidates if c.task in tasks and c.kind != "heat"]
    edits = [e for e in recorded.edits if e.task in tasks]
    worth: RoundRewards = rewards(edits, candidates, trials, verdicts, section=config.grading, votes=votes)
    return {
        "grading": config.grading.model_dump(mode="json"),
        "verdicts": [encode(v) for v in verdicts],
        "rewards": encode(worth),
        "choices": [encode(c) for c in select.choose(worth.rewards, config.select)],
    }


def _compared(recorded: Round, verdicts: Sequence[Verdict], document: dict[str, Any]) -> dict[str, Json]:
    """What changed: the verdicts on which both graders agree, arms, reliability, and the edits that would be kept."""
    before = {(v.candidate, v.question): v.correct for v in recorded.verdicts if v.correct is not None}
    both = [(before[v.candidate, v.question], v.correct) for v in verdicts if (v.candidate, v.question) in before]
    both = [(a, b) for a, b in both if b is not None]
    kept = {c.edit for c in recorded.kept}
    would = {c["edit"] for c in document["choices"] if c["weight"] > 0}
    return {
        "round": recorded.number,
        "open": False,
        "verdicts": len(verdicts),
        "failed": sum(v.failure is not None for v in verdicts),
        "agreement": sum(a == b for a, b in both) / len(both) if both else None,
        "arms": document["rewards"]["arms"],
        "arms_before": (recorded.rewards or {}).get("arms"),
        "reliability": document["rewards"]["reliability"],
        "kept": len(kept),
        "would_keep": len(would),
        "kept_by_both": len(kept & would),
    }


def show(done: dict[str, Any]) -> str:
    out = [f"{done['uri']}, graded by {done['grader']}" + (f", ${done['dollars']:.2f}" if done["dollars"] else "")]
    for r in done["rounds"]:
        lost = f", {r['failed']} could not be had" if r["failed"] else ""
        if r["open"]:
            out.append(f"round {r['round']} (open): {r['verdicts']} verdicts, {r['new']} of them new{lost}")
            continue
        same = f", {r['agreement']:.1%} as before" if r["agreement"] is not None else ""
        out.append(f"round {r['round']}: {r['verdicts']} verdicts{same}{lost}")
        with as_written(done["uri"], "its rewards"):
            out += _arms(r)
        out.append(f"  would keep {r['would_keep']} edits, {r['kept_by_both']} of the {r['kept']} that were kept")
    if done["folder"]:
        out.append(f"the run's own rewards stay as they are; these are in {done['folder']}")
    return "\n".join(out)


def _arms(r: dict[str, Any]) -> Iterator[str]:
    for arm, title in (("base", "base"), ("context", "context alone"), ("edit", "mean edit")):
        now, then = (((r[key] or {}).get(arm) or {}).get("accuracy") for key in ("arms", "arms_before"))
        if now:
            earlier = f", was {then['mean']:.1%}" if then else ""
            yield f"  {title:<14} {now['mean']:.1%} ±{now['error']:.1%}{earlier}"
