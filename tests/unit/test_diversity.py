"""How alike the edits of a task are."""

import math

import pytest
from reward_rounds import PaperRound

from seal_ray.grading.diversity import diversity, similarity
from seal_ray.loops.exploring.edits import parsed
from seal_ray.records import Edit, Failure, Task


def test_diversity_is_the_mean_distance_of_pairs() -> None:
    assert similarity("The cat sat down.", "the CAT, sat down") == 1
    assert similarity("one two three four", "five six seven eight") == 0
    assert similarity("a b c d", "a b c e") == pytest.approx(1 / 3)
    assert diversity(["a b c d", "a b c d"]) == 0
    assert diversity(["a b c d", "a b c e", "x y z"]) == pytest.approx((2 / 3 + 1 + 1) / 3)
    assert diversity(["alone"]) is None
    assert similarity("", "") == 1
    assert 0 < similarity("猫が好きです", "猫が好きです") <= 1


class Reads:
    """As much of a domain as the reading of edits asks for."""

    def parse(self, task: Task, text: str) -> str | Failure:
        return text.strip() or Failure("no_text", "it is empty")


@pytest.mark.parametrize(("limit", "dropped"), [(0, {3: "copy"}), (0.7, {2: "near_copy", 3: "copy", 5: "near_copy"})])
def test_of_copies_and_near_copies_the_first_is_kept(limit: float, dropped: dict[int, str]) -> None:
    """`sampling.drop_near_copies`; what is the same to the letter is tried once in any case."""
    texts = ["a b c d e f g h", "something else", "a b c d e f g h!", "something else", "", "a b c d e f g x"]
    written = [Edit(str(n), "t", n, "v", 0, (), (), (), text, "stop") for n, text in enumerate(texts)]
    edits = parsed(Reads(), Task("t", {}), written, limit)  # type: ignore[arg-type]
    kinds = {e.slot: e.failure.kind for e in edits if e.failure}
    assert kinds == dropped | {4: "no_text"}
    assert {e.failure.message[-1] for e in edits if e.failure and e.slot in dropped} <= {"0", "1"}


def test_a_round_knows_the_diversity_of_its_edits() -> None:
    found = PaperRound()
    for slot, text in enumerate(("a b c d", "a b c d", "")):
        found.edit("t", slot, text, Failure("no_text", "x") if not text else None)
    assert found.worth().diversity == 0
    assert math.isfinite(sum(r.value.mean for r in found.worth().rewards))
