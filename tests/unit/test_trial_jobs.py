"""Jobs that try edits in this process: the seeds of their trials, and what a trial that was graded in part is worth."""

from importlib import import_module as job
from types import SimpleNamespace
from typing import Any

from seal_ray.config import Config
from seal_ray.records import Failure, Likelihood, Recipe, Task, Trial, Verdict


def test_a_heat_is_trained_with_a_seed_of_its_own_as_a_rounds_heats_are() -> None:
    made = job("trial_bench")
    bench: Any = object.__new__(made.TrialBench)
    bench.domain = SimpleNamespace(training=lambda *_: ((), Recipe(epochs=8)), questions=lambda _: ())
    bench.tokenizer, bench.config = None, Config()
    task = Task("t", {})

    def seed(edit: str, number: int, share: float) -> int:
        attempt = bench.attempt(made.Wanted(f"t|{edit}|{number}|{share}", task, "edit", edit, number, share))
        assert attempt.candidate.recipe.epochs == 8 * share
        return attempt.candidate.seed

    assert seed("a", 0, 0.25) != seed("a", 0, 1.0), "what decides who goes on is not the luck that is measured then"
    assert seed("a", 0, 0.25) == seed("b", 0, 0.25) and seed("a", 0, 1.0) == seed("b", 0, 1.0)
    assert len({seed("a", number, share) for number in range(3) for share in (0.25, 1.0)}) == 6


def test_a_puzzle_whose_verdict_could_not_be_given_is_not_one_that_is_not_solved() -> None:
    made = job("arc_tiny_report")
    lost = Failure("no_answer", "a view of this test input has no answer", "infra")
    none, right, wrong = (
        Verdict("c", "0", "exact", None, None, lost),
        Verdict("c", "1", "exact", True, 1.0),
        Verdict("c", "2", "exact", False, 0.0),
    )

    def result(*verdicts: Verdict) -> Any:
        bench: Any = object.__new__(made.Bench)
        bench.failed = []
        bench.domain = SimpleNamespace(verdicts=lambda *_: verdicts, cell_accuracy=lambda *_: [None, 0.5])
        found = bench._result(Task("t", {}), Trial("c", "t", likelihoods=(Likelihood("0", 0, -1.0, 2),)))
        return found.solved if found else bench.failed

    assert result(none, right) == 1.0 and result(none, right, wrong) == 0.5
    assert result(none) == [lost], "what was never graded is counted among what failed"
