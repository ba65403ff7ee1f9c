"""Which segments of a folder count, by their numbers."""

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal_ray.storage.seen import Seen, joined, named, ranges
from seal_ray.storage.segments import parse, segment_path


@given(st.lists(st.integers(1, 60)), st.lists(st.integers(1, 60)))
def test_runs_of_numbers_are_joined_as_sets_are(old: list[int], new: list[int]) -> None:
    def made(numbers: list[int]) -> dict[str, dict[int, tuple[tuple[int, int], ...]]]:
        return ranges(segment_path("rounds/0001/trials", 3, n) for n in numbers)

    assert joined(made(old), made(new)) == made(sorted({*old, *new}))
    folder, seen = "rounds/0001/trials", Seen(4, frozenset(), made(old))
    gone = seen.missing(folder, [segment_path(folder, 3, n) for n in new])
    assert [path for path, _ in named(folder, gone)] == [segment_path(folder, 3, n) for n in sorted({*old} - {*new})]
    assert {n for n in range(1, 61) if seen.accepts(segment_path(folder, 3, n))} == {*old}


class Counted(tuple):  # type: ignore[type-arg]
    """Runs of numbers that count how often one of them is looked at."""

    looks = 0

    def __getitem__(self, at: Any) -> Any:
        Counted.looks += 1
        return super().__getitem__(at)

    def __iter__(self) -> Iterator[Any]:
        for one in super().__iter__():
            Counted.looks += 1
            yield one


def test_whether_a_segment_counts_is_told_without_looking_at_every_hole() -> None:
    holes = 20_000
    seen = Seen(4, frozenset(), {"rounds/0001/trials": {3: Counted((2 * n, 2 * n) for n in range(1, holes))}})
    Counted.looks = 0
    for number in range(1, 2 * holes, 997):
        assert seen.accepts(segment_path("rounds/0001/trials", 3, number)) is (number % 2 == 0)
    assert 0 < Counted.looks < 25 * len(range(1, 2 * holes, 997))


@pytest.mark.parametrize("path", ["e000001-00000001.jsonl", "a/e1-2.jsonl", "a/e000001-00000001.json", "a/x", ""])
def test_what_is_no_segment_is_not_taken_for_one(path: str) -> None:
    assert parse(path) is None and parse("a/b/e000012-00000345.jsonl") == ("a/b", 12, 345)
