"""How far rewards can be trusted: choose edits on some repeats, score the choice on a repeat that was left out.

    python jobs/bench_rewards.py rewards_round0_dev.json rewards_round0_rewrite_dev.json

Each passage of a file has edits, each edit three repeats, each repeat [right before, right after] for each question.
The rule chooses on two repeats and is scored on the third, over all three ways; where it abstains, the baseline is
scored. The intervals are 95 % of a bootstrap over passages.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from seal_ray.config import GradingSection, SelectSection
from seal_ray.grading.reward import RoundRewards, rewards
from seal_ray.grading.variance import Table, components
from seal_ray.policy.select import rest_em
from seal_ray.records import Candidate, Edit, Json, Reward, Trial, Verdict

DRAWS = 10_000
SECTION = GradingSection(reward="accuracy")


@dataclass(frozen=True)
class MeasuredPassage:
    name: str
    before: np.ndarray  # [repeat]: accuracy without an edit, as measured beside each repeat
    after: np.ndarray  # [edit, repeat]
    wrong: np.ndarray  # [edit, repeat, question]: 1 or 0, before
    right: np.ndarray  # the same, after


def read(path: Path) -> list[MeasuredPassage]:
    passages = []
    for number, row in enumerate(json.loads(path.read_text())):
        verdicts = np.array([e["repeats"] for e in row["edits"]], dtype=float)  # [edit, repeat, question, before/after]
        passages.append(
            MeasuredPassage(
                f"{number}-{row['title']}",
                verdicts[..., 0].mean((0, 2)),
                verdicts[..., 1].mean(2),
                verdicts[..., 0],
                verdicts[..., 1],
            )
        )
    return passages


def as_round(passages: Sequence[MeasuredPassage], repeats: Sequence[int]) -> RoundRewards:
    """The passages as a round that has run only these repeats."""
    edits, candidates, trials, verdicts = [], [], [], []

    def tried(candidate: Candidate, right: Sequence[float]) -> None:
        candidates.append(candidate)
        trials.append(Trial(candidate.id, candidate.task))
        for n, value in enumerate(right):
            verdicts.append(Verdict(candidate.id, str(n), SECTION.grader, value > 0.5, value))

    for p in passages:
        for slot, rows in enumerate(p.right):
            edit = f"{p.name}/{slot}"
            edits.append(Edit(edit, p.name, slot, "v", 0, (), (), (), edit, "stop"))
            for n in repeats:
                # the files hold a baseline beside every repeat, a round has one: all that were seen count as one
                tried(Candidate(f"{edit}/{n}/base", p.name, "baseline", None, -1, n, n, None), list(p.wrong[slot, n]))
                tried(Candidate(f"{edit}/{n}", p.name, "edit", edit, slot, n, n, None), list(rows[n]))
    return rewards(edits, candidates, trials, verdicts, section=SECTION)


# positions chosen; None abstains
Rule = Callable[[MeasuredPassage, Sequence[Reward], Sequence[int]], Sequence[int] | None]


def plain_best(p: MeasuredPassage, _: Sequence[Reward], used: Sequence[int]) -> Sequence[int]:
    """Best mean, the first of those that are tied."""
    return [int(p.after[:, list(used)].mean(1).argmax())]


def shared_best(p: MeasuredPassage, _: Sequence[Reward], used: Sequence[int]) -> Sequence[int]:
    """Best mean, the mean of those that are tied: what plain best comes to without the luck of their order."""
    means = p.after[:, list(used)].mean(1)
    return [int(e) for e in np.flatnonzero(np.isclose(means, means.max()))]


def first_of_five(p: MeasuredPassage, _: Sequence[Reward], used: Sequence[int]) -> Sequence[int]:
    return [0]


def all_of_them(p: MeasuredPassage, _: Sequence[Reward], used: Sequence[int]) -> Sequence[int]:
    return range(len(p.after))


def ours(**options: Json) -> Rule:
    section = SelectSection(**options)

    def rule(p: MeasuredPassage, found: Sequence[Reward], _: Sequence[int]) -> Sequence[int] | None:
        chosen = {c.edit for c in rest_em(found, section)}
        slots = [r.slot for r in found if r.edit in chosen]
        return slots or None

    return rule


RULES: dict[str, Rule] = {
    "all edits (mean)": all_of_them,
    "first edit": first_of_five,
    "plain best of mean": plain_best,
    "the same, ties shared": shared_best,
    "best, margin 0": ours(rule="best", margin=0),
    "best, margin 1": ours(rule="best", margin=1),
    "top 2, margin 0": ours(rule="top_k", top_k=2),
    "all positive": ours(rule="positive"),
}


def score(passages: Sequence[MeasuredPassage], rule: Rule, rounds: Sequence[RoundRewards]) -> tuple[np.ndarray, float]:
    """[passage]: accuracy on the repeat left out, mean of the three ways; and the share of choices not made."""
    values, abstained = np.zeros((len(passages), 3)), 0
    for left_out, worth in enumerate(rounds):
        used = [n for n in range(3) if n != left_out]
        for i, p in enumerate(passages):
            chosen = rule(p, [r for r in worth.rewards if r.task == p.name], used)
            abstained += chosen is None
            values[i, left_out] = p.before[left_out] if chosen is None else p.after[list(chosen), left_out].mean()
    return values.mean(1), abstained / values.size


def promised(passages: Sequence[MeasuredPassage], rounds: Sequence[RoundRewards]) -> tuple[float, float, float]:
    """Gain of the best edits over the baseline: as measured where they were chosen, as shrunk, and as it came out."""
    raw, shrunk, came = [], [], []
    for left_out, worth in enumerate(rounds):
        for p in passages:
            for choice in rest_em([r for r in worth.rewards if r.task == p.name], SelectSection()):
                (reward,) = (r for r in worth.rewards if r.edit == choice.edit)
                raw.append(reward.raw.mean)
                shrunk.append(reward.value.mean)
                came.append(float(p.after[reward.slot, left_out] - p.before[left_out]))
    return float(np.mean(raw)), float(np.mean(shrunk)), float(np.mean(came))


def interval(values: np.ndarray, seed: int = 0) -> tuple[float, float]:
    draws = np.random.default_rng(seed).integers(0, len(values), (DRAWS, len(values)))
    low, high = np.percentile(values[draws].mean(1), [2.5, 97.5])
    return float(low), float(high)


def comes_back(passages: Sequence[MeasuredPassage]) -> np.ndarray:
    """[passage, 2]: how edits' differences on two repeats go with those on the third, and their own squares.

    The ratio of the sums is the share of a difference that comes back on a fresh seed: the reliability, measured.
    """
    parts = np.zeros((len(passages), 2))
    for i, p in enumerate(passages):
        for left_out in range(3):
            seen = p.after[:, [n for n in range(3) if n != left_out]].mean(1)
            seen = seen - seen.mean()
            parts[i] += (seen @ p.after[:, left_out], seen @ seen)
    return parts


def estimated(passages: Sequence[MeasuredPassage], repeats: int) -> float:
    tables: list[Table] = [
        {str(e): {n: float(y) for n, y in enumerate(row)} for e, row in enumerate(p.after)} for p in passages
    ]
    found = components(tables)
    return found.reliability(repeats) if found else float("nan")


def report(name: str, passages: Sequence[MeasuredPassage]) -> None:
    rounds = [as_round(passages, [n for n in range(3) if n != left_out]) for left_out in range(3)]
    print(f"\n{name}: {len(passages)} passages, {passages[0].after.shape[0]} edits, 3 repeats")
    print(f"{'':<22}{'accuracy on the repeat left out':>34}{'against plain best':>30}{'abstained':>12}")
    plain, _ = score(passages, plain_best, rounds)
    base = np.array([p.before.mean() for p in passages])
    rows = [("baseline", base, 0.0), *((n, *score(passages, r, rounds)) for n, r in RULES.items())]
    for title, values, abstained in rows:
        low, high = interval(values)
        less, more = interval(values - plain)
        print(
            f"{title:<22}{values.mean():>12.3f}   [{low:.3f}, {high:.3f}]"
            f"{(values - plain).mean():>+14.3f} [{less:+.3f}, {more:+.3f}]{abstained:>12.0%}"
        )
    raw, shrunk, came = promised(passages, rounds)
    print(f"gain of the chosen: measured {raw:+.3f}, as the reward says {shrunk:+.3f}, on a fresh repeat {came:+.3f}")
    parts = comes_back(passages)
    draws = np.random.default_rng(0).integers(0, len(parts), (DRAWS, len(parts)))
    sums = parts[draws].sum(1)
    low, high = np.percentile(sums[:, 0] / sums[:, 1], [2.5, 97.5])
    print(
        f"reliability of the mean of two repeats: estimated {estimated(passages, 2):.3f}, measured on the third "
        f"{parts[:, 0].sum() / parts[:, 1].sum():.3f} [{low:.3f}, {high:.3f}]; of three: {estimated(passages, 3):.3f}"
    )
    from_two = [w.reliability["accuracy"] for w in rounds]
    shown = ", ".join("-" if v is None else f"{v:.3f}" for v in from_two)
    print(f"the same as a round prints it, from each two repeats alone: {shown}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+")
    files = {path.name: read(path) for path in parser.parse_args().files}
    for name, passages in files.items():
        report(name, passages)
    if len(files) > 1:
        report("together", [p for passages in files.values() for p in passages])


if __name__ == "__main__":
    main()
