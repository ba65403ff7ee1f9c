"""How useful each kind of notes is in the tiny world of knowledge: trained on as an edit is, and questioned.

    python jobs/knowledge_tiny_kinds.py [--people 24] [--seeds 2]

No policy writes here: the notes are those that the kinds' forms make. What the rounds of `knowledge-tiny.yaml` can gain
is the distance from the mean over kinds, which the model begins with, to the best one.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from knowledge_tiny_tasks import FACTS, HELD_OUT, KINDS, LEAST, PEOPLE, notes, people
from rich.console import Console
from rich.table import Table

from seal_ray import config_file, grading, models
from seal_ray.domains import load_domain
from seal_ray.grading.measure import measure
from seal_ray.records import Ask, Attempt, Candidate, CandidateKind, Task, Trial, Verdict, derive_seed
from seal_ray.trials.wave import try_wave

JOB = Path(__file__).parent / "knowledge-tiny.yaml"
UNTRAINED = "without notes"


def main() -> None:
    parser = argparse.ArgumentParser(description="how useful each kind of notes is")
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--set", action="append", default=[], help="a key of the configuration, as of seal-ray run")
    given = parser.parse_args()
    began, config = time.monotonic(), config_file.load(JOB, given.set)
    folder = models.fetch(config.model)
    tokenizer, model = models.tokenizer(folder), models.load(folder, dtype="float32")
    domain = load_domain(
        config.domain,
        recipe=config.inner.recipe(),
        answering=config.answering,
        chat=False,
        seed=config.run.seed,
        read=lambda path: (JOB.parents[1] / path).read_bytes(),
    )
    grader = grading.build(config.grading, "", config.storage)
    everybody = {p.name: p for p in people(PEOPLE, HELD_OUT)}
    tasks = list(domain.tasks("train"))[: given.people]

    def attempt(task: Task, name: str, text: str | None, seed: int) -> Attempt:
        examples, recipe = domain.training(task, text, tokenizer) if text is not None else ([], None)
        asks = []
        for q in domain.questions(task):
            end = (tokenizer.eos_token_id,)
            gold, wrong = (
                tuple((*models.text_ids(tokenizer, q.lead + t), *end) for t in texts)
                for texts in (q.gold, task.distractors.get(q.id, ()))
            )
            asks.append(Ask(q.id, tuple(models.render(tokenizer, q.prompt)), gold, q.max_tokens, q.stop, wrong))
        kind: CandidateKind = "edit" if text is not None else "baseline"
        number = derive_seed(task.id, seed)
        return Attempt(
            Candidate(f"{task.id}/{name}/{seed}", task.id, kind, name, 0, seed, number, recipe),
            tuple(examples),
            tuple(asks),
        )

    arms = [(kind, count) for kind in KINDS for count in (LEAST, FACTS)]
    attempts = [attempt(t, UNTRAINED, None, 0) for t in tasks]
    for task in tasks:
        person = everybody[task.data["title"]]
        for kind, count in arms:
            for seed in range(given.seeds):
                text = notes(person, kind, np.random.default_rng(derive_seed(task.id, kind, count)), count)
                attempts.append(attempt(task, f"{kind} {count}", text, seed))
    trials: list[Trial] = try_wave(model, tokenizer, attempts, wave=config.inner.wave)
    by_id = {t.id: t for t in tasks}
    verdicts: list[Verdict] = [
        v for t in trials for v in domain.verdicts(by_id[t.task], t.candidate, t.answers, grader)
    ]
    measured = measure([a.candidate for a in attempts], trials, verdicts, grader.name)
    table = Table("notes", "facts", title=f"{len(tasks)} people, {given.seeds} seeds")
    for column in ("trials", "right", "log-probability of a right token", "contrast"):
        table.add_column(column, justify="right")
    for kind, count in [(UNTRAINED, ""), *arms]:
        own = [m for m in measured if m.edit == (f"{kind} {count}" if count else kind)]
        cells = [
            [getattr(m, name) for m in own if getattr(m, name) is not None]
            for name in ("accuracy", "likelihood", "contrast")
        ]
        table.add_row(kind, str(count), str(len(own)), *(f"{np.mean(c):.3f}" if c else "-" for c in cells))
    Console(width=120).print(table, f"{time.monotonic() - began:.0f} s, {time.process_time():.0f} s of CPU")


if __name__ == "__main__":
    main()
