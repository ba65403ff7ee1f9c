"""Further repeats where the choice is still open: for whom, how many, and what they are good for."""

from dataclasses import dataclass

import numpy as np
from reward_rounds import PaperRound, best_of

from seal_ray.grading.racing import Standing
from seal_ray.grading.reward import RoundRewards, more_repeats
from seal_ray.records import Repeats


@dataclass
class Race:
    standings: list[Standing]


def race(*means_: float, error: float = 0.2, noise: float = 0.1, task: str = "t", following: int = 2) -> Race:
    return Race([Standing(f"{task}{n}", task, 2, following, m, error, noise) for n, m in enumerate(means_)])


def trials_of(requests: list[Repeats]) -> dict[str, int]:
    spent: dict[str, int] = {}
    for r in requests:
        for edit in r.edits:
            spent[edit] = spent.get(edit, 0) + r.repeats
    return spent


def test_repeats_go_to_the_edits_between_which_the_choice_is_open() -> None:
    requests = more_repeats(race(0.50, 0.48, -2.0, -3.0), 8, [], "v")
    assert set(trials_of(requests)) == {"t0", "t1"}
    assert all(r.first == 2 and r.task == "t" and r.version == "v" for r in requests)
    assert "ahead by 0.02" in requests[0].reason


def test_a_choice_that_is_made_costs_nothing_more() -> None:
    assert more_repeats(race(2.0, 0.0, error=0.1), 100, [], "v") == []
    assert more_repeats(race(1.0), 100, [], "v") == [], "a single edit has no rival"
    assert more_repeats(race(0.5, 0.5, error=0.0, noise=0.0), 100, [], "v") == []


def test_the_open_task_gets_more_than_the_nearly_decided_one() -> None:
    both = Race([*race(0.5, 0.5, task="open").standings, *race(0.5, 0.05, task="near").standings])
    spent = trials_of(more_repeats(both, 12, [], "v", portion=1.0))
    assert sum(spent.values()) == 12
    assert spent["open0"] > spent.get("near0", 0)


def test_the_budget_holds_over_all_calls_and_a_resumed_run_asks_the_same() -> None:
    worth, asked = race(0.5, 0.5, 0.4, error=1.0, noise=1.0), []
    while requests := more_repeats(worth, 21, asked, "v"):
        assert requests == more_repeats(worth, 21, list(asked), "v")
        asked += requests
        assert len({r.id for r in asked}) == len(asked)
        nexts = {e: r.first + r.repeats for r in asked for e in r.edits}
        worth = Race(
            [
                Standing(s.edit, s.task, s.repeats, nexts.get(s.edit, s.following), s.mean, s.error, s.noise)
                for s in worth.standings
            ]
        )
    assert sum(trials_of(asked).values()) == 20, "pairs are asked for, so one of 21 stays"
    cells = [(e, n) for r in asked for e in r.edits for n in range(r.first, r.first + r.repeats)]
    assert len(cells) == len(set(cells)), "no repeat is asked for twice"


def test_failed_repeats_are_not_asked_for_again() -> None:
    found = PaperRound()
    found.trial("t", -1, likely=[0.0])
    for slot in (0, 1):
        found.trial("t", slot, likely=[1.0], repeat=0)
        found.trial("t", slot, likely=[2.0 + slot / 10], repeat=1)
        found.trial("t", slot, lost=True, repeat=2)
    requests = more_repeats(found.worth("likelihood"), 4, [], "v")
    assert {r.first for r in requests} == {3}


def test_repeats_that_are_raced_choose_better_than_repeats_that_are_spread() -> None:
    """Same budget: three repeats each, or two each and the rest where the choice is open."""
    draw = np.random.default_rng(7)
    tasks, edits = 150, 5
    effects, chance = draw.normal(0, 1.0, (tasks, edits)), draw.normal(0, 1.0, (tasks, edits, 40))

    def choose(repeats: dict[tuple[int, int], int]) -> RoundRewards:
        found = PaperRound()
        for t in range(tasks):
            found.trial(f"t{t:03}", -1, likely=[0.0])
            for e in range(edits):
                for r in range(repeats[t, e]):
                    found.trial(f"t{t:03}", e, likely=[effects[t, e] + chance[t, e, r]], repeat=r)
        return found.worth("likelihood")

    def quality(worth: RoundRewards) -> float:
        return float(np.mean([effects[int(r.task[1:]), r.slot] for r in best_of(worth)]))

    spread = quality(choose({(t, e): 3 for t in range(tasks) for e in range(edits)}))
    repeats, asked = {(t, e): 2 for t in range(tasks) for e in range(edits)}, []
    worth = choose(repeats)
    while requests := more_repeats(worth, tasks * edits, asked, "v"):
        asked += requests
        for edit, count in trials_of(requests).items():
            task, slot = edit.split("/")
            repeats[int(task[1:]), int(slot)] += count
        worth = choose(repeats)
    assert sum(repeats.values()) <= 3 * tasks * edits
    assert quality(worth) > spread + 0.01
