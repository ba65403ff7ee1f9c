"""What adaptation gains the tiny model on grid puzzles it has never seen, and which directives win.

    python jobs/arc_tiny_report.py [--edits 6] [--held-out 18]

One round by hand, without a cluster: directives are sampled under their schema for each task of the round, every
task is tried as it is, with the fixed directives and with each sampled set. A set is chosen on one training seed and
scored on another, so the winner's luck does not count. The best sets of the round are then tried on held-out tasks.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from seal_ray import config_file, models
from seal_ray.config import Config
from seal_ray.domains import load_domain
from seal_ray.domains.arc import Arc
from seal_ray.domains.base import Rejected
from seal_ray.inner import try_wave
from seal_ray.records import Ask, Attempt, Candidate, Failure, Json, Task, Trial, Version, derive_seed
from seal_ray.sampling.engine import EngineSettings
from seal_ray.sampling.sampler import EditPrompt, Sampler

JOB = Path(__file__).parent / "arc-tiny.yaml"
BASELINE = "as it is"  # stands where a set of directives stands otherwise; None is the fixed one
CHOOSE, SCORE = 0, 1  # repeats


@dataclass(frozen=True)
class Result:
    score: float
    likelihood: float  # mean log-probability of a token of the right output
    cells: float


class Bench:
    """The domain, the model, and everything that was tried with them."""

    def __init__(self, config: Config) -> None:
        self.config = config
        folder = models.fetch(config.model)
        self.tokenizer = models.tokenizer(folder)
        self.model = models.load(folder, dtype=config.model.dtype)
        domain = load_domain(
            config.domain,
            recipe=config.inner.recipe(),
            answering=config.answering,
            chat=False,
            seed=config.run.seed,
            read=lambda path: Path(path).read_bytes(),
        )
        assert isinstance(domain, Arc)
        self.domain = domain
        self.failed: list[Failure] = []

    def sample(self, tasks: Sequence[Task], edits: int) -> dict[str, list[dict[str, Json]]]:
        """Different sets of directives for each task, in the order in which they were sampled."""
        section = self.config.sampling
        sampler = Sampler(self.config.model, EngineSettings(dtype="float32", max_length=self.config.model.max_length))
        digest = sampler.start()
        sampler.load_version(Version(number=0, digest=digest, base=digest))
        prompts = []
        for task in tasks:
            for slot in range(edits):
                ask = self.domain.edit_request(task, slot)
                prompts.append(
                    EditPrompt(
                        task.id,
                        slot,
                        tuple(models.render(self.tokenizer, ask.prompt)),
                        derive_seed(self.config.run.seed, task.id, slot, "edit"),
                        section.temperature,
                        section.top_p,
                        ask.max_tokens or section.max_tokens,
                        ask.schema,
                    )
                )
        written = sampler.sample(prompts)
        sampler.stop()
        by_id = {task.id: task for task in tasks}
        found: dict[str, list[dict[str, Json]]] = {task.id: [] for task in tasks}
        for edit in written:
            content = edit.failure or self.domain.parse(by_id[edit.task], edit.text)
            if isinstance(content, Failure):
                self.failed.append(content)
            elif content not in found[edit.task]:
                found[edit.task].append(content)
        return found

    def attempt(self, task: Task, content: Json, repeat: int) -> Attempt | Failure:
        examples, recipe = (), None
        if content != BASELINE:
            try:
                made, recipe = self.domain.training(task, content, self.tokenizer)
            except Rejected as rejected:
                return rejected.failure
            examples = tuple(made)
        end = self.tokenizer.eos_token_id
        asks = tuple(
            Ask(
                q.id,
                tuple(models.render(self.tokenizer, q.prompt)),
                tuple((*self.tokenizer(g, add_special_tokens=False)["input_ids"], end) for g in q.gold),
                q.max_tokens,
                q.stop,
            )
            for q in self.domain.questions(task)
        )
        seed = derive_seed(self.config.run.seed, task.id, repeat, "train")
        kind = "baseline" if content == BASELINE else "context" if content is None else "edit"
        identity = json.dumps([task.id, content, repeat])
        return Attempt(Candidate(identity, task.id, kind, None, 0, repeat, seed, recipe), examples, asks)

    def try_all(self, wanted: Sequence[tuple[Task, Json, int]]) -> list[Result | None]:
        """What comes of each (task, directives, repeat); None where it failed."""
        made = [self.attempt(*one) for one in wanted]
        attempts = [a for a in made if isinstance(a, Attempt)]
        trials = iter(try_wave(self.model, self.tokenizer, attempts))
        results: list[Result | None] = []
        for (task, _, _), one in zip(wanted, made, strict=True):
            results.append(self._result(task, next(trials)) if isinstance(one, Attempt) else self._fail(one))
        return results

    def _result(self, task: Task, trial: Trial) -> Result | None:
        if trial.failure:
            return self._fail(trial.failure)
        verdicts = self.domain.verdicts(task, trial.candidate, trial.answers)
        cells = [c for c in self.domain.cell_accuracy(task, trial.answers) if c is not None]
        tokens = sum(x.tokens for x in trial.likelihoods)
        return Result(
            sum(v.score or 0.0 for v in verdicts) / len(verdicts),
            sum(x.logprob for x in trial.likelihoods) / tokens,
            sum(cells) / len(cells),
        )

    def _fail(self, failure: Failure) -> None:
        self.failed.append(failure)


def brief(content: Json) -> str:
    """A set of directives in one short line."""
    if content is None:
        return "fixed"
    families = [name for name in ("basic", "size", "chain", "repeat") if content[name]]
    return (
        f"{'+'.join(families) or 'no family'}, loss on {content['loss']}, "
        f"{content['learning_rate']:g}, {content['epochs']} epochs"
    )


def summary(name: str, results: Sequence[Result | None]) -> tuple[str, ...]:
    known = [r for r in results if r is not None]
    if not known:
        return name, "0", "-", "-", "-"
    mean = [sum(values) / len(known) for values in zip(*((r.score, r.likelihood, r.cells) for r in known), strict=True)]
    return name, str(len(known)), f"{mean[0]:.0%}", f"{mean[1]:.3f}", f"{mean[2]:.0%}"


def new_table(title: str, *columns: str) -> Table:
    table = Table(title=title)
    for column in columns:
        table.add_column(column, justify="left" if column in ("arm", "task", "directives") else "right")
    return table


def best(found: dict[tuple[str, str, int], Any], task: Task, options: Sequence[Json]) -> Json:
    """The set of directives under which the right output was likeliest on the seed for choosing."""
    known = [o for o in options if found[task.id, json.dumps(o), CHOOSE] is not None]
    return max(known, key=lambda o: found[task.id, json.dumps(o), CHOOSE].likelihood, default=None)


def main() -> None:
    parser = argparse.ArgumentParser(description="what adaptation gains the tiny model")
    parser.add_argument("--edits", type=int, default=6)
    parser.add_argument("--tasks", type=int, default=8, help="tasks of the round")
    parser.add_argument("--held-out", type=int, default=18)
    parser.add_argument("--winners", type=int, default=3, help="sets of the round that are tried on held-out tasks")
    given = parser.parse_args()
    console, began = Console(width=150), time.monotonic()
    bench = Bench(config_file.load(JOB))
    tasks = list(bench.domain.tasks("train"))[: given.tasks]
    held_out = list(bench.domain.tasks("test"))[: given.held_out]
    edits = bench.sample(tasks, given.edits)
    sampled = time.monotonic()

    wanted: list[tuple[Task, Json, int]] = []
    for task in tasks:
        wanted += [(task, BASELINE, CHOOSE)]
        wanted += [(task, content, repeat) for content in (None, *edits[task.id]) for repeat in (CHOOSE, SCORE)]
    results = bench.try_all(wanted)
    found = {(t.id, json.dumps(c), r): result for (t, c, r), result in zip(wanted, results, strict=True)}
    chosen = {task.id: best(found, task, edits[task.id]) for task in tasks}
    table = new_table("The round", "arm", "trials", "solved", "log-probability of a right token", "right cells")
    table.add_row(*summary("without adaptation", [found[t.id, json.dumps(BASELINE), CHOOSE] for t in tasks]))
    table.add_row(*summary("fixed directives", [found[t.id, "null", SCORE] for t in tasks]))
    every = [found[t.id, json.dumps(c), SCORE] for t in tasks for c in edits[t.id]]
    table.add_row(*summary("sampled directives, all", every))
    table.add_row(
        *summary("sampled directives, best of a task", [found[t.id, json.dumps(chosen[t.id]), SCORE] for t in tasks])
    )
    console.print(table)
    table = new_table("The directives that won", "task", "directives", "solved before", "solved after")
    for task in tasks:
        before, after = found[task.id, json.dumps(BASELINE), CHOOSE], found[task.id, json.dumps(chosen[task.id]), SCORE]
        scores = [f"{r.score:g}" if r else "failed" for r in (before, after)]
        table.add_row(task.id, brief(chosen[task.id]), *scores)
    console.print(table)

    def gain(task: Task) -> float:
        before, after = (found[task.id, json.dumps(c), CHOOSE] for c in (BASELINE, chosen[task.id]))
        return after.likelihood - before.likelihood if before and after else float("-inf")

    ranked = sorted(tasks, key=gain, reverse=True)
    winners = [json.loads(c) for c in dict.fromkeys(json.dumps(chosen[t.id]) for t in ranked)][: given.winners]
    arms = [BASELINE, None, *winners]
    wanted = [(task, arm, SCORE) for arm in arms for task in held_out]
    results = bench.try_all(wanted)
    table = new_table("Held-out tasks", "arm", "trials", "solved", "log-probability of a right token", "right cells")
    for number, arm in enumerate(arms):
        name = "without adaptation" if arm == BASELINE else "fixed directives" if arm is None else brief(arm)
        table.add_row(*summary(name, results[number * len(held_out) : (number + 1) * len(held_out)]))
    console.print(table)
    for failure in dict.fromkeys(bench.failed):
        console.print(f"{bench.failed.count(failure)} x failed: {failure.kind}: {failure.message}")
    console.print(f"{sampled - began:.0f} s to load and sample, {time.monotonic() - sampled:.0f} s to try")


if __name__ == "__main__":
    main()
