"""Records go to JSON and back, and their names depend on their content alone."""

import dataclasses
import math
import pickle

import pytest

from seal_ray import errors
from seal_ray.config import AnsweringSection
from seal_ray.records import (
    Answer,
    Candidate,
    Cost,
    Example,
    Failure,
    Likelihood,
    Recipe,
    Trial,
    candidate_id,
    canonical,
    decode,
    derive_seed,
    digest,
    encode,
    identity,
)

TRIAL = Trial(
    candidate="c1",
    task="t1",
    losses=(2.5, 1.25),
    answers=(Answer("q1", "blue — 青", 3, "stop", -0.5),),
    likelihoods=(Likelihood("q1", 0, -1.5, 3),),
    cost=Cost(seconds=1.0, tokens=5),
    worker="w1",
)


def test_a_record_comes_back_as_it_was() -> None:
    candidate = Candidate("c1", "t1", "edit", "e1", 0, 0, 7, Recipe(targets=("q_proj",)))
    for record in (TRIAL, candidate, Trial("c2", "t1", failure=Failure("nan_loss", "at step 3"))):
        assert decode(type(record), encode(record)) == record


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"loses": []}, "unknown loses"),
        ({"losses": "x"}, "expected a list"),
        ({"losses": ["x"]}, r"losses\[0\]: expected float"),
        ({"answers": [{"question": 1}]}, r"answers\[0\].question"),
        ({"cost": 3}, "expected an object"),
    ],
)
def test_what_is_not_a_record_is_refused_with_its_place(change: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        decode(Trial, encode(TRIAL) | change)


def test_a_record_with_fields_missing_takes_their_defaults_and_its_own_check_is_made() -> None:
    data = encode(TRIAL)
    assert decode(Trial, {k: v for k, v in data.items() if k != "worker"}) == dataclasses.replace(TRIAL, worker="")
    assert decode(Trial, data | {"cost": {"tokens": 5, "seconds": 1}}) == TRIAL
    with pytest.raises(ValueError, match=r"Trial: .*task"):
        decode(Trial, {"candidate": "c1"})
    with pytest.raises(ValueError, match=r"Example: .*one mask value"):
        decode(Example, {"ids": [1, 2], "mask": [True]})


def test_a_number_that_is_none_cannot_be_recorded() -> None:
    for value in (math.nan, math.inf):
        with pytest.raises(ValueError, match="ledger"):
            encode(Trial("c", "t", losses=(value,)))


def test_a_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert digest({"a": 1, "b": [1.5]}) == digest({"b": [1.5], "a": 1})
    assert canonical({"b": 1, "a": "é"}) == '{"a":"é","b":1}'


def test_seeds_differ_by_place_and_never_by_time() -> None:
    seeds = {derive_seed(1, r, t, s) for r in range(3) for t in ("a", "b") for s in range(5)}
    assert len(seeds) == 30
    assert derive_seed(1, 0, "a", 0) == derive_seed(1, 0, "a", 0)
    assert all(0 <= s < 2**31 for s in seeds)


def test_a_candidate_is_named_by_all_that_its_result_depends_on() -> None:
    base = ("v", "t", "edit", Recipe(), {"max_tokens": 8}, 1)
    others = [
        ("w", *base[1:]),
        ("v", "u", *base[2:]),
        (*base[:2], "other", *base[3:]),
        (*base[:3], Recipe(rank=8), *base[4:]),
        (*base[:3], Recipe(moments="int8"), *base[4:]),
        (*base[:4], {"max_tokens": 9}, 1),
        (*base[:5], 2),
    ]
    names = {candidate_id(*base), *(candidate_id(*o) for o in others)}
    assert len(names) == 8


def test_every_error_survives_the_trip_between_processes() -> None:
    kinds = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, errors.SealError)]
    assert len(kinds) > 8
    for kind in kinds:
        back = pickle.loads(pickle.dumps(kind("what", hint="how")))
        assert (type(back), str(back)) == (kind, "what; how")


def test_steps_count_the_last_short_batch() -> None:
    assert Recipe(epochs=3, batch_size=2, accumulation=2).steps(9) == 3 * 3
    assert Recipe(epochs=1).steps(0) == 0


def test_names_of_candidates_are_those_of_the_first_version_whatever_has_been_added_since() -> None:
    answering = AnsweringSection(max_tokens=4).identity()
    named = candidate_id("v", "t", "an edit", Recipe(rank=4), answering, 7)
    assert named == "8fa6f71cc85b687034752194b9bf6312"  # as version 0.1.0 names it


def test_a_setting_that_is_new_enters_a_name_only_where_it_is_not_its_default() -> None:
    values, defaults = {"old": 1, "new": 5}, {"old": 1, "new": 5}
    assert identity(values, {"old"}, defaults) == {"old": 1}
    assert identity(values | {"new": 6}, {"old"}, defaults) == {"old": 1, "new": 6}
