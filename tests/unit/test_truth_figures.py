"""What many seeds say about rewards, on trials that are made up so that the answer is known."""

import dataclasses
import importlib
import random
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture
def figures() -> ModuleType:
    return importlib.import_module("truth_figures")


def trials(figures: ModuleType, tasks: int = 8, edits: int = 6, seeds: int = 9) -> list[Any]:
    """Edits of known worth: accuracy is coarse and noisy, the right answer's likelihood follows the worth closely, but
    half of the edits raise any answer's likelihood: only the contrast sees through that."""
    luck, made = random.Random(1), []
    for t in range(tasks):
        flat = {f"q{q}": [[-8.0, 2]] for q in range(4)}
        made.append(figures.Tried(f"t{t}", "baseline", 0, False, 0.0, flat, {q: [[-8.0, 2]] * 3 for q in flat}, 0))
        for e in range(edits):
            worth, any_answer = e / edits, 4.0 * (e % 2)
            for seed in range(seeds):
                for heat in (False, True) if seed < 3 else (False,):
                    known = sum(luck.random() < worth for _ in range(4)) / 4
                    gain = 4 * worth * (0.6 if heat else 1.0) + luck.gauss(0, 0.1)
                    gold = {q: [[-8.0 + any_answer + gain, 2]] for q in flat}
                    wrong = {q: [[-8.0 + any_answer, 2]] * 3 for q in flat}
                    steps, features = (2 if heat else 8), {"worth": worth, "chance": luck.random()}
                    made.append(figures.Tried(f"t{t}", f"t{t}e{e}", seed, heat, known, gold, wrong, steps, features))
    return made


def test_a_line_of_the_file_comes_back_as_a_trial(figures: ModuleType) -> None:
    line = {"task": "a|b", "accuracy": 0.5, "gold": {}, "wrong": {}, "steps": 3}
    plain, heat = (figures.Tried.of({**line, "name": name}, {}) for name in ("a|b|e1|4", "a|b|e1|4|heat"))
    assert (plain.edit, plain.seed, plain.heat) == ("e1", 4, False)
    assert (heat.edit, heat.seed, heat.heat) == ("e1", 4, True)


def test_the_contrast_sees_through_what_helps_any_answer_and_the_likelihood_does_not(figures: ModuleType) -> None:
    made = trials(figures)
    tables = figures.tabulate(made)
    found = {n: figures.choices(tables[n], tables["accuracy"], 3) for n in ("likelihood", "contrast", "accuracy")}
    rank = {n: sum(c.rank for c in own.values() if c.rank is not None) / len(own) for n, own in found.items()}
    assert rank["contrast"] > 0.8 > rank["likelihood"]
    assert rank["contrast"] > rank["accuracy"]
    for own in found["contrast"].values():
        assert own.mean < own.truth <= own.best + 1e-9


def test_the_truth_is_never_of_the_seeds_that_chose(figures: ModuleType) -> None:
    table = {"t": {"a": {0: 1.0, 1: 0.0, 2: 0.0, 3: 0.0}, "b": {0: 0.0, 1: 0.5, 2: 0.5, 3: 0.5}}}
    chosen = figures.choices(table, table, 1)["t"]
    assert chosen.truth == pytest.approx((0.0 + 3 * (0.5 + 0.5 + 0.0) / 3) / 4)
    lucky = {"t": {"a": {0: 1.0, 1: 0.0}, "b": {0: 0.0, 1: 1.0}}}
    assert figures.choices(lucky, lucky, 1)["t"].lost == 1.0, "what was promised and did not come back"
    assert figures.spearman([1, 2, 3], [10, 20, 15]) == pytest.approx(0.5)
    assert figures.spearman([1, 1, 1], [1, 2, 3]) is None


def test_a_seed_that_was_stopped_in_or_failed_for_an_edit_counts_for_no_edit(figures: ModuleType) -> None:
    whole = {"a": {0: 0.0, 1: 0.25, 2: 0.5}, "b": {0: 1.0, 1: 0.75, 2: 0.0}}
    lacking = {"a": {**whole["a"], 3: 1.0}, "b": whole["b"]}
    for repeats in (1, 2):
        found = [figures.choices({"t": own}, {"t": own}, repeats) for own in (whole, lacking)]
        assert found[0] == found[1] and "t" in found[0]
    failed = {"a": {0: 0.0, 2: 0.5}, "b": whole["b"]}
    assert figures.choices({"t": failed}, {"t": failed}, 1)["t"].truth == 0.0, "b by seed 0, a by seed 2"


def test_what_is_there_of_an_experiment_that_was_stopped_is_reported(figures: ModuleType) -> None:
    made = trials(figures, seeds=2)
    for left in range(1, len(made), 7):
        lines = figures.report(made[:left])
        assert lines[0] == "nothing has been tried yet" or " edits, " in lines[0]
    alike = [dataclasses.replace(t, accuracy=0.5) for t in trials(figures)]
    rows = {line.split(" | ")[0].strip("| "): line.split(" | ") for line in figures.report(alike) if line[:2] == "| "}
    assert rows["contrast"][4] == "-", "of edits that are all worth the same there is no rank"


def test_heats_and_the_model_of_gain_choose_as_well_for_fewer_steps(figures: ModuleType) -> None:
    made = trials(figures)
    heats = figures.saved(made, "contrast", figures.by_heat)
    assert heats.steps == pytest.approx((6 * 2 + 2 * 8) / (6 * 8))
    pick, agreement = figures.by_model(made, "contrast")
    model = figures.saved(made, "contrast", pick)
    assert model.steps == pytest.approx(0.5) and min(agreement) > 0.9
    both = figures.saved(made, "contrast", figures.by_both(pick))
    assert both.steps == pytest.approx((3 * 2 + 2 * 8) / (6 * 8)), "heats are paid of what the model leaves"
    for found in (heats, model, both):
        apart = [found.truth[t] - found.all_tried[t] for t in found.truth]
        assert len(apart) == 8 and abs(sum(apart) / len(apart)) < 0.05


def test_without_heats_the_model_of_gain_is_judged_all_the_same(figures: ModuleType) -> None:
    made = [t for t in trials(figures) if not t.heat]
    pick, _ = figures.by_model(made, "contrast")
    model = figures.saved(made, "contrast", pick)
    assert len(model.truth) == 8 and model.steps == pytest.approx(0.5)
    lines = figures.savings(made)
    assert any("a model of gain" in line for line in lines) and not any("heats" in line for line in lines)


def test_so_many_of_the_sampled_answers_count(figures: ModuleType) -> None:
    line = {"name": "t|e|4", "task": "t", "accuracy": 0.5, "samples": [1.0, 0.5, 0.0], "gold": {}, "wrong": {}}
    assert [figures.Tried.of({**line, "steps": 1}, {}, n).accuracy for n in (0, 1, 2, 3)] == [0.5, 1.0, 0.75, 0.5]


def test_what_is_reported_of_the_chosen_edit_is_drawn_towards_its_task_as_far_as_it_is_chance(
    figures: ModuleType,
) -> None:
    luck = random.Random(3)
    table = {f"t{t}": {f"e{e}": {s: luck.random() for s in range(12)} for e in range(5)} for t in range(30)}
    lost = figures.choices(table, table, 1)
    raw, shrunk = (sum(getattr(c, n) for c in lost.values()) / 30 for n in ("lost", "lost_shrunk"))
    assert raw > 0.25 and abs(shrunk) < 0.05, "nothing but chance: all that was promised is taken back"
    certain = {t: {e: dict.fromkeys(range(12), float(e == "e3")) for e in own} for t, own in table.items()}
    assert all(c.lost_shrunk == pytest.approx(0) for c in figures.choices(certain, certain, 1).values())


def test_the_report_says_it_in_tables(figures: ModuleType) -> None:
    lines = figures.report(trials(figures))
    assert lines[0] == "8 tasks, 48 edits, 9 seeds"
    rows = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    assert {"accuracy", "contrast", "accuracy + contrast", "contrast, softmax", "contrast, wins"} <= rows.keys()
    assert any("heats of 25% of the epochs" in line for line in lines)
    assert figures.report([]) == ["nothing has been tried yet"]
