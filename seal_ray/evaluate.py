"""Arms side by side on the same tasks: no training, the context alone, edits from here and there.

An evaluation is kept like a run: each arm is a round in its ledger, so it resumes, verifies and reports like one.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from seal_ray.config import Config
from seal_ray.driver import Driver
from seal_ray.errors import ConfigError, DataError
from seal_ray.explore import Exploration, Plan
from seal_ray.grading.reward import RoundRewards
from seal_ray.history import Run
from seal_ray.policy import compare, versions
from seal_ray.records import Edit, Estimate, Json, Split, Task, Version, derive_seed, digest, encode

ARMS = "none, context, untrained, file:PATH#KEY (published edits), version:RUN#N (edits of a version of another run)"


class Evaluation(Driver):
    """A driver whose rounds are arms."""

    def __init__(self, config: Config, arms: Sequence[str], split: Split, stop: Callable[[], bool]) -> None:
        super().__init__(config, stop)
        self.arms = list(arms)
        self.split: Split = split
        self.results: dict[str, dict[str, dict[str, list[float]]]] = {}

    def _rounds(self) -> str:
        tasks = list(self.domain.tasks(self.split))[: self.config.run.tasks_per_round]
        if len(tasks) < 2:
            raise ConfigError(
                f"the split {self.split} has {len(tasks)} tasks, and a comparison needs 2",
                mend="raise its share under domain, or evaluate another split",
            )
        self._need_crew()
        for number, arm in enumerate(self.arms, 1):
            self._round = number
            self.results[arm] = self._arm(number, arm, tuple(tasks))
        return "done"

    def _arm(self, number: int, arm: str, tasks: tuple[Task, ...]) -> dict[str, dict[str, list[float]]]:
        part = self.ledger.round(number)
        version = self._version(arm)
        part.put("arm.json", {"arm": arm})
        part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(version)})
        kind, _, rest = arm.partition(":")
        sampling, repeats = self.config.sampling.edits, self.config.inner.repeats
        self._tell("round_started", tasks=len(tasks), version=version.number, edits=0 if kind == "none" else sampling)
        given = self._from_file(rest, tasks, version) if kind == "file" else None
        # the seeds of an arm do not depend on its number: every arm of a task trains with the same ones
        plan = Plan(
            1,
            version,
            tasks,
            edits=0 if kind in {"none", "context"} else sampling,
            repeats=0 if kind == "none" else repeats,
            context_arm=kind == "context",
            given=given,
        )
        found = self._explore(part, plan)
        worth = self._reward(part, found)
        part.commit({"version": encode(version), "decision": "evaluated"})
        return _scores(kind, worth, found)

    def _version(self, arm: str) -> Version:
        kind, _, rest = arm.partition(":")
        if kind in {"none", "context", "untrained", "file"}:
            return versions.first(self.base)
        if kind != "version":
            raise ConfigError(f"--arm {arm}: no such arm", mend=f"use {ARMS}")
        uri, _, number = rest.rpartition("#")
        source = Run(uri, self.config.storage)
        known = [v for v in source.versions() if str(v.number) == number]
        if not known:
            raise ConfigError(f"--arm {arm}: {uri} has no version {number}", mend="`seal-ray lineage` lists them")
        self._foreign[known[0].digest] = source.ledger
        return known[0]

    def _from_file(self, where: str, tasks: Sequence[Task], version: Version) -> tuple[Edit, ...]:
        """Edits that somebody wrote: a list of {title, context, KEY: text or texts}."""
        path, _, key = where.partition("#")
        try:
            rows = json.loads(self._read(path))
            written = {row["context"]: row[key] for row in rows if key in row}
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path}: no list of passages with edits under {key!r} ({error})", mend=f"use {ARMS}"
            ) from None
        edits = []
        for task in tasks:
            texts = written.get(task.data.get("context"))
            if texts is None:
                raise DataError(f"{path}: no edits under {key!r} for the passage of task {task.id}")
            for slot, text in enumerate([texts] if isinstance(texts, str) else texts):
                name = digest([path, key, task.id, slot, text])[:32]
                edits.append(Edit(name, task.id, slot, version.digest, 0, (), (), (), text, "stop", content=text))
        return tuple(edits)


def _scores(kind: str, worth: RoundRewards, found: Exploration) -> dict[str, dict[str, list[float]]]:
    """Accuracy and likelihood by task: of the baseline, the context alone, or each edit."""
    out: dict[str, dict[str, list[float]]] = {"accuracy": {}, "likelihood": {}}

    def add(task: str, accuracy: Estimate | None, likelihood: Estimate | None) -> None:
        for name, value in (("accuracy", accuracy), ("likelihood", likelihood)):
            if value is not None:
                out[name].setdefault(task, []).append(value.mean)

    if kind in {"none", "context"}:
        wanted = "baseline" if kind == "none" else "context"
        for score in worth.scores:
            if score.kind == wanted:
                add(score.task, score.accuracy, score.likelihood)
    else:
        for reward in worth.rewards:
            add(reward.task, reward.accuracy, reward.likelihood)
    return out


def evaluate(
    config: Config, arms: Sequence[str], *, split: Split = "test", stop: Callable[[], bool] = lambda: False
) -> dict[str, Json]:
    """Run the arms and compare each with the first one, by paired bootstrap over tasks."""
    evaluation = Evaluation(config, arms, split, stop)
    try:
        evaluation.go()
    finally:
        evaluation.close()
    seed = derive_seed(config.run.seed, "evaluate")
    tables = {
        measure: compare.table(
            {arm: found[measure] for arm, found in evaluation.results.items()}, against=arms[0], seed=seed
        )
        for measure in ("accuracy", "likelihood")
    }
    plain = {
        measure: {arm: {k: _plain(v) for k, v in row.items()} for arm, row in table.items()}
        for measure, table in tables.items()
    }
    return {"uri": config.run.uri, "against": arms[0], "tables": plain}


def _plain(value: Any) -> Json:
    if not hasattr(value, "__dataclass_fields__"):
        return value
    return {k: (v if v == v and abs(v) != float("inf") else None) for k, v in asdict(value).items()}


def show(found: Mapping[str, Any]) -> str:
    out = []
    for measure, rows in found["tables"].items():
        out.append(f"{measure:<12}{'mean':>10}{'±':>9}   against {found['against']} (95 %)")
        for arm, row in rows.items():
            if "missing" in row and "mean" not in row:
                out.append(f"  {arm:<28} {row['missing']}")
                continue
            mean, gap = row["mean"], row.get("difference")
            line = f"  {arm:<28}{mean['mean']:>9.3f} {mean['error'] or 0:>8.3f}"
            if gap:
                line += f"   {gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
            out.append(line)
    return "\n".join(out)
