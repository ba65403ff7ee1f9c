"""A worker's states, as a pure function of what was seen of it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seal_ray.fleet import actor_health
from seal_ray.fleet.actor_health import DEAD_AFTER, SUSPECT_AFTER, Health, Sign

BEAT = 10.0


def healthy() -> Health:
    return actor_health.ready(actor_health.begin(0.0), 5.0)


def suspect() -> Health:
    return actor_health.silent(healthy(), 5 + SUSPECT_AFTER * BEAT + 1, 5.0, BEAT)


def test_a_worker_is_healthy_when_it_has_loaded_its_version() -> None:
    assert actor_health.begin(0.0).state == "starting"
    assert healthy().state == "healthy"


def test_silence_makes_suspect_and_then_dead_and_says_for_how_long() -> None:
    quiet = suspect()
    assert quiet.state == "suspect" and "no sign of life for 31.0 s" in quiet.reason
    gone = actor_health.silent(quiet, quiet.since + DEAD_AFTER * BEAT + 1, quiet.since, BEAT)
    assert gone.state == "dead"


def test_a_short_silence_changes_nothing() -> None:
    assert actor_health.silent(healthy(), 5 + SUSPECT_AFTER * BEAT - 1, 5.0, BEAT) == healthy()


def test_a_suspect_that_is_asked_again_and_again_still_dies() -> None:
    quiet = suspect()
    later = quiet.since + DEAD_AFTER * BEAT + 1
    assert actor_health.silent(quiet, later, later - 1, BEAT).state == "dead"


def test_a_suspect_that_answers_while_it_computes_lives() -> None:
    quiet = suspect()
    later = quiet.since + DEAD_AFTER * BEAT + 1
    busy = actor_health.signed(quiet, later - BEAT, Sign("v1", lease=7), "v1")
    assert actor_health.silent(busy, later, later - 1, BEAT) == busy
    assert busy.counts and not quiet.counts
    gone = actor_health.silent(busy, later + DEAD_AFTER * BEAT, later, BEAT)
    assert gone.state == "dead" and "no sign of life for 100.0 s" in gone.reason


def test_a_suspect_with_the_right_version_comes_back() -> None:
    assert actor_health.signed(suspect(), 60.0, Sign("v1", None), "v1").state == "healthy"


@pytest.mark.parametrize("version", ["", "v0"])
def test_a_suspect_with_another_version_must_load_first(version: str) -> None:
    back = actor_health.signed(suspect(), 60.0, Sign(version, None), "v1")
    assert back.state == "starting" and "came back with version" in back.reason


def test_a_suspect_that_still_computes_gets_nothing_new() -> None:
    assert actor_health.signed(suspect(), 60.0, Sign("v1", lease=7), "v1").state == "suspect"


def test_what_a_start_may_take_counts_from_when_the_files_are_there() -> None:
    fetching = actor_health.signed(actor_health.begin(0.0), 500.0, Sign("", None, fetching=True), "v1")
    assert (fetching.state, fetching.since) == ("starting", 500.0)
    assert actor_health.signed(fetching, 600.0, Sign("", None), "v1").since == 500.0
    assert actor_health.signed(healthy(), 600.0, Sign("v1", None, fetching=True), "v1").since == healthy().since


def test_a_slow_start_is_no_silence() -> None:
    assert actor_health.silent(actor_health.begin(0.0), 10_000.0, 0.0, BEAT).state == "starting"


def test_a_leaving_worker_stays_so_until_it_is_lost() -> None:
    leaving = actor_health.leave(healthy(), 9.0, "its node will be drained")
    assert actor_health.ready(leaving, 10.0).state == "leaving"
    assert actor_health.signed(leaving, 10.0, Sign("v1", None), "v1").state == "leaving"
    assert actor_health.lost(leaving, 11.0, "not needed").state == "dead"


steps = st.lists(
    st.one_of(
        st.just(("ready",)),
        st.just(("reload",)),
        st.tuples(st.just("signed"), st.sampled_from(["v1", "v0", ""]), st.sampled_from([None, 3])),
        st.tuples(st.just("silent"), st.floats(0, 200)),
        st.just(("unreachable",)),
        st.just(("leave",)),
        st.just(("lost",)),
    ),
    max_size=20,
)


@given(steps)
def test_the_dead_stay_dead_and_nobody_becomes_healthy_without_the_right_version(found: list[tuple]) -> None:
    one, now, loaded = actor_health.begin(0.0), 0.0, False
    for step in found:
        now += 1
        before = one
        match step:
            case ("ready",):
                one = actor_health.ready(one, now)
                loaded = True
            case ("reload",):
                one = actor_health.reload(one, now)
            case ("signed", version, lease):
                one = actor_health.signed(one, now, Sign(version, lease), "v1")
                if before.state == "suspect" and one.state == "healthy":
                    assert version == "v1" and lease is None
            case ("silent", waited):
                one = actor_health.silent(one, now, now - waited, BEAT)
            case ("unreachable",):
                one = actor_health.unreachable(one, now, "gone")
            case ("leave",):
                one = actor_health.leave(one, now, "drained")
            case ("lost",):
                one = actor_health.lost(one, now, "killed")
        if not before.alive:
            assert one == before
        if one.state == "healthy":
            assert loaded or any(s[0] == "signed" for s in found)
        assert not (before.state == "leaving" and one.state not in {"leaving", "dead"})
