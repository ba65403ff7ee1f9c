"""What adaptation gains the tiny model on grid puzzles that it has never seen, and which directives won.

    python jobs/arc_tiny_report.py [runs/arc-tiny]

Reads a committed round of `arc-tiny.yaml`. The round's own figures flatter the directives that it kept, since they
were chosen by them. So those with the highest rewards are tried once more on the validation tasks, and the best one
there on the test tasks, beside no adaptation and the fixed directives.
"""

import argparse
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

import seal_ray
from seal_ray import models
from seal_ray.config import Config
from seal_ray.domains import load_domain
from seal_ray.domains.arc import Arc
from seal_ray.domains.base import Rejected
from seal_ray.loops.history import Round
from seal_ray.records import Ask, Attempt, Candidate, Failure, Json, Task, Trial, derive_seed
from seal_ray.trials.wave import try_wave

BASELINE = "without adaptation"  # stands where a set of directives stands otherwise; None is the fixed one


@dataclass(frozen=True)
class Result:
    solved: float
    likelihood: float  # mean log-probability of a token of the right output
    cells: float


class Bench:
    """The round's domain and base model, and what failed on them."""

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

    def attempt(self, task: Task, content: Json) -> Attempt | Failure:
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
        seed = derive_seed(self.config.run.seed, "report", task.id)  # not one that the round has trained with
        kind = "baseline" if content == BASELINE else "edit"
        return Attempt(
            Candidate(json.dumps([task.id, content]), task.id, kind, None, 0, 0, seed, recipe), examples, asks
        )

    def try_all(self, wanted: Sequence[tuple[Task, Json]]) -> list[Result | None]:
        """What comes of each task and set of directives; None where it failed."""
        made = [self.attempt(*one) for one in wanted]
        trials = iter(try_wave(self.model, self.tokenizer, [a for a in made if isinstance(a, Attempt)]))
        results: list[Result | None] = []
        for (task, _), one in zip(wanted, made, strict=True):
            results.append(self._fail(one) if isinstance(one, Failure) else self._result(task, next(trials)))
        return results

    def _result(self, task: Task, trial: Trial) -> Result | None:
        if trial.failure:
            return self._fail(trial.failure)
        verdicts = self.domain.verdicts(task, trial.candidate, trial.answers)
        scores = [v.score for v in verdicts if v.score is not None]
        if not scores:
            return self._fail(next(v.failure for v in verdicts if v.failure))
        cells = [c for c in self.domain.cell_accuracy(task, trial.answers) if c is not None]
        tokens = sum(x.tokens for x in trial.likelihoods)
        return Result(
            sum(scores) / len(scores),
            sum(x.logprob for x in trial.likelihoods) / tokens,
            sum(cells) / len(cells),
        )

    def _fail(self, failure: Failure) -> None:
        self.failed.append(failure)


def brief(content: Json) -> str:
    """A set of directives in one short line."""
    if content == BASELINE:
        return BASELINE
    if content is None:
        return "fixed directives"
    families = [name for name in ("basic", "size", "chain", "repeat") if content[name]]
    return (
        f"{'+'.join(families) or 'no family'}, loss on {content['loss']}, "
        f"{content['learning_rate']:g}, {content['epochs']} epochs"
    )


def mean(results: Sequence[Result | None]) -> Result | None:
    known = [r for r in results if r is not None]
    if not known:
        return None
    return Result(*(sum(v) / len(known) for v in zip(*((r.solved, r.likelihood, r.cells) for r in known), strict=True)))


def arms_table(title: str, arms: Sequence[tuple[Json, Sequence[Result | None]]]) -> Table:
    table = Table("arm", title=title)
    for column in ("trials", "solved", "log-probability of a right token", "right cells"):
        table.add_column(column, justify="right")
    for content, results in arms:
        found = mean(results)
        figures = (f"{found.solved:.0%}", f"{found.likelihood:.2f}", f"{found.cells:.0%}") if found else ("-",) * 3
        table.add_row(brief(content), str(sum(r is not None for r in results)), *figures)
    return table


def round_tables(found: Round) -> tuple[Table, Table]:
    """What the round measured: its arms, and for each task the directives that were kept."""
    assert found.rewards
    arms = Table("arm", title=f"Round {found.number}: {len(found.tasks)} tasks, {len(found.edits)} edits")
    for column in ("solved", "log-probability of a right token"):
        arms.add_column(column, justify="right")
    names = {"base": BASELINE, "context": "fixed directives", "edit": "sampled directives, mean"}
    for arm, name in names.items():
        accuracy, likelihood = (found.rewards["arms"][arm][m] for m in ("accuracy", "likelihood"))
        arms.add_row(name, f"{accuracy['mean']:.0%}", f"{likelihood['mean']:.2f}")
    rewards = {r["edit"]: r for r in found.rewards["rewards"]}
    best = [rewards[c.edit] for c in found.choices]
    if best:
        figures = [sum(r[m]["mean"] for r in best) / len(best) for m in ("accuracy", "likelihood")]
        arms.add_row("kept directives (chosen by these trials)", f"{figures[0]:.0%}", f"{figures[1]:.2f}")
    base = {s["task"]: s for s in found.rewards["scores"] if s["kind"] == "baseline"}
    edits = {e.id: e for e in found.edits}
    kept = Table("task", "directives that won", title="The directives that won")
    for column in ("solved before", "after", "likelihood before", "after"):
        kept.add_column(column, justify="right")
    for choice in found.choices:
        before, after = base[choice.task], rewards[choice.edit]
        cells = [f"{s[m]['mean']:.{d}f}" for m, d in (("accuracy", 0), ("likelihood", 2)) for s in (before, after)]
        kept.add_row(choice.task, brief(edits[choice.edit].content), *cells)
    return arms, kept


def main() -> None:
    parser = argparse.ArgumentParser(description="what adaptation gains the tiny model")
    parser.add_argument("uri", nargs="?", default="runs/arc-tiny")
    parser.add_argument("--finalists", type=int, default=3, help="kept directives that the validation tasks compare")
    parser.add_argument("--held-out", type=int, default=1000, help="test tasks, at most")
    given = parser.parse_args()
    console, began = Console(width=140), time.monotonic()
    run = seal_ray.open(given.uri)
    found = run.round(run.latest)
    for table in round_tables(found):
        console.print(table)

    bench = Bench(run.config)
    assert found.rewards
    worth = {r["edit"]: r["value"]["mean"] for r in found.rewards["rewards"]}
    contents = {e.id: json.dumps(e.content) for e in found.edits}
    ranking = sorted((c.edit for c in found.choices), key=lambda edit: worth[edit], reverse=True)
    kept = [json.loads(text) for text in dict.fromkeys(contents[edit] for edit in ranking)][: given.finalists]
    validation = list(bench.domain.tasks("validation"))
    results = bench.try_all([(task, content) for content in kept for task in validation])
    ranked: list[tuple[Json, list[Result | None]]] = sorted(
        ((c, results[i * len(validation) : (i + 1) * len(validation)]) for i, c in enumerate(kept)),
        key=lambda arm: (m.solved, m.likelihood) if (m := mean(arm[1])) else (-1.0, 0.0),
        reverse=True,
    )
    console.print(arms_table(f"Kept directives on {len(validation)} validation tasks", ranked))

    held_out = list(bench.domain.tasks("test"))[: given.held_out]
    arms: list[Json] = [BASELINE, None, *(content for content, _ in ranked[:1])]
    results = bench.try_all([(task, arm) for arm in arms for task in held_out])
    shares = [(arm, results[i * len(held_out) : (i + 1) * len(held_out)]) for i, arm in enumerate(arms)]
    console.print(arms_table(f"{len(held_out)} held-out tasks; the last arm is the round's best", shares))
    for failure in dict.fromkeys(bench.failed):
        console.print(f"{bench.failed.count(failure)} x failed: {failure.kind}: {failure.message}")
    console.print(f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
