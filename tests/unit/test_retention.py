"""Figures of a retention matrix, on matrices of which they are known."""

import pytest

from seal_ray.grading.retention import Matrix, curves, figures, mean_matrix

# three steps: each is learned to 1 from 0.2; the first falls to 0.4 and then 0.6, the second to 0.8
FORGETS = [[0.2, 0.2, 0.2], [1.0, 0.2, 0.3], [0.4, 1.0, 0.4], [0.6, 0.8, 1.0]]
KEEPS = [[0.2, 0.2, 0.2], [1.0, 0.2, 0.2], [1.0, 1.0, 0.2], [1.0, 1.0, 1.0]]


def means(*matrices: Matrix) -> dict[str, float | None]:
    return {name: value and value.mean for name, value in figures(matrices, seed=1).items()}


def test_each_figure_is_what_it_says() -> None:
    found = means(FORGETS)
    expected = {"base": 0.2, "immediate": 1.0, "retained": 0.8, "backward": -0.3, "forward": 0.1, "forgetting": 0.3}
    assert found == pytest.approx(expected | {"kept": 0.6 / 0.8})


def test_where_nothing_is_forgotten_all_is_kept() -> None:
    found = means(KEEPS, KEEPS)
    assert found["kept"] == 1 and found["forgetting"] == found["backward"] == 0


def test_an_interval_covers_its_sequences_and_one_sequence_has_none() -> None:
    one, two = figures([FORGETS], seed=1)["retained"], figures([FORGETS, KEEPS], seed=1)["retained"]
    assert one and one.low is None and one.sequences == 1
    assert two and two.low is not None and two.high is not None
    assert two.low <= two.mean <= two.high and (two.low, two.high) == pytest.approx((0.8, 1.0))


def test_a_share_of_nothing_is_no_share() -> None:
    still = [[0.5, 0.5]] * 3
    assert figures([still], seed=1)["kept"] is None


def test_what_was_not_measured_is_no_zero() -> None:
    seldom = [[0.2, 0.2, 0.2], [1.0, None, None], [None, 1.0, None], [0.6, 0.8, 1.0]]
    found = means(seldom)
    assert found["immediate"] == 1.0 and found["forward"] is None and found["backward"] == pytest.approx(-0.3)
    assert found["forgetting"] == pytest.approx(0.3)
    assert [c["retained"] for c in curves([seldom])] == [1.0, None, pytest.approx(0.8)]
    assert mean_matrix([seldom, seldom])[1] == [1.0, None, None]


def test_a_stream_that_is_on_is_told_as_if_it_had_ended_after_its_last_step() -> None:
    base, first = [0.2] * 4, [1.0, 0.2, 0.2, 0.2]
    found = means([base, first])
    assert found["kept"] == found["immediate"] == found["retained"] == 1 and found["base"] == pytest.approx(0.2)
    assert found["forgetting"] is found["backward"] is found["forward"] is None
    found = means([base, first, [0.6, 1.0, 0.2, 0.2]])
    assert found["kept"] == pytest.approx(1.2 / 1.6) and found["backward"] == pytest.approx(-0.4)


def test_of_a_stream_that_is_on_the_last_step_counts_that_was_measured_whole() -> None:
    rows = [[0.2] * 4, [1.0, 0.2, 0.2, 0.2], [None, 1.0, None, None]]
    assert means(rows) == means(rows[:2]) and means(rows)["kept"] == 1
    assert means([rows[0], [None] * 4])["kept"] is None


def test_figures_are_the_same_for_the_same_seed() -> None:
    assert figures([FORGETS, KEEPS], seed=4) == figures([FORGETS, KEEPS], seed=4)
