"""Directives: found and repaired in sloppy text, refused where two readings are left."""

import json

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seal_ray.config import ArcDomain
from seal_ray.domains.arc.directives import Directives, output_schema, read_directives
from seal_ray.records import Failure

SECTION = ArcDomain(data="c.json", max_epochs=5, max_lr=0.01)
SMALL = ArcDomain(data="c.json", learning_rates=(1e-5, 1e-4), epoch_choices=(1, 3))
GOOD = {
    "basic": True,
    "size": False,
    "chain": False,
    "repeat": True,
    "loss": "output",
    "learning_rate": 0.0001,
    "epochs": 3,
}
PLAIN = json.dumps(GOOD)
directives = st.fixed_dictionaries(
    {
        **{name: st.booleans() for name in ("basic", "size", "chain", "repeat")},
        "loss": st.sampled_from(["all", "output"]),
        "learning_rate": st.floats(1e-6, 1e-2),
        "epochs": st.integers(1, 5),
    }
)


@given(directives, st.sampled_from([None, 1]))
def test_written_directives_are_read_back(values, indent):
    found = read_directives(json.dumps(values, indent=indent), SECTION)
    assert found == Directives(**values)


@pytest.mark.parametrize(
    "text",
    [
        PLAIN,
        f"Sure! Here it is:\n```json\n{PLAIN}\n```\nGood luck {{with that}}.",
        PLAIN.replace('"', "'"),
        PLAIN.replace("true", "True").replace("false", "False"),
        PLAIN.replace('"', ""),
        PLAIN.replace("}", ",}"),
        PLAIN.removesuffix("}") + "\n",
        PLAIN.replace("0.0001", '"1e-4"').replace("true", '"true"').replace("3", "3.0"),
        PLAIN.replace("{", '{"why": "basic: false is worse, I think", '),
        '{"directives": ' + PLAIN + "}",
        f"{PLAIN}\nonce more: {PLAIN}",
        PLAIN.replace(":", " =").replace('"', ""),
        PLAIN + "{" * 50,
        '{"basic": "maybe"} ' + PLAIN,
    ],
)
def test_directives_survive_sloppy_writing(text):
    assert read_directives(text, SECTION) == Directives(**GOOD)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no JSON object"),
        ("I would use all of them, at 1e-4, for 3 epochs.", "no JSON object"),
        ("[1, 2]", "no JSON object"),
        ("{}", "basic: field required"),
        (PLAIN.removesuffix("3}"), "epochs: field required"),
        (PLAIN.removesuffix("}"), "epochs: field required"),  # 3, or the first digit of 30
        (PLAIN.replace("output", "inputs"), "loss: "),
        (PLAIN.replace("3}", "2.5}"), "epochs: "),
        (PLAIN.replace("3}", "0}"), "epochs: "),
        (PLAIN.replace("0.0001", "-1"), "learning_rate: "),
        (PLAIN.replace("0.0001", "NaN"), "learning_rate: "),
        (PLAIN.replace("0.0001", "Infinity"), "learning_rate: "),
        (PLAIN.replace("true", "perhaps"), "basic: "),
        (PLAIN.replace("true", "null"), "basic: "),
        (PLAIN.replace('"basic": true', '"basic": true, "basic": false'), "basic twice"),
        (PLAIN + PLAIN.replace("3}", "4}"), "2 different sets of directives"),
        (PLAIN.replace("}", " " * 3000 + "}"), "too long"),
        (PLAIN.replace("3}", "9" * 1500 + "}"), "epochs: "),
    ],
)
def test_what_has_no_one_reading_is_unparsable(text, why):
    found = read_directives(text, SECTION)
    assert isinstance(found, Failure) and (found.kind, found.blame) == ("unparsable", "data")
    assert why in found.message


@pytest.mark.parametrize(
    ("section", "values", "why"),
    [
        (SECTION, {"epochs": 6}, "epochs: 6 is over domain.max_epochs: 5"),
        (SECTION, {"learning_rate": 0.02}, "learning_rate: 0.02 is over domain.max_lr: 0.01"),
        (SMALL, {"epochs": 2}, "epochs: 2 is none of domain.epoch_choices"),
        (SMALL, {"learning_rate": 0.0002}, "learning_rate: 0.0002 is none of domain.learning_rates"),
    ],
)
def test_an_edit_over_the_limits_is_over_budget(section, values, why):
    assert isinstance(read_directives(PLAIN, section), Directives)
    found = read_directives(json.dumps({**GOOD, **values}), section)
    assert isinstance(found, Failure) and found.kind == "over_budget"
    assert why in found.message


@pytest.mark.timeout(60)
@pytest.mark.parametrize("piece", ["{", "[", "}", '{"a":', '{"basic": [', "{[", '"', "'a'", "a:", "a=b ", "{a:b,", " "])
def test_a_hundred_thousand_of_anything_are_refused_in_bounded_time(piece):
    for text in (piece * 100_000, '{"basic": ' + piece * 100_000):
        found = read_directives(text, SECTION)
        assert isinstance(found, Failure) and found.kind == "unparsable"


@given(st.text(alphabet='{}[]":, abceilopsrtu_0123.=\n' + "'", max_size=300))
@settings(max_examples=300)
def test_no_text_makes_reading_fail(text):
    assert isinstance(read_directives(text, SECTION), Directives | Failure)


@given(directives)
def test_the_schema_of_open_limits_takes_what_is_within_them(values):
    jsonschema.validate(values, output_schema(SECTION))
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({**values, "epochs": 6}, output_schema(SECTION))


def test_the_schema_of_small_sets_offers_these_alone():
    schema = output_schema(SMALL)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(GOOD, schema)
    for wrong in ({"epochs": 2}, {"learning_rate": 1e-3}, {"loss": "none"}, {"basic": 1}, {"more": 1}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate({**GOOD, **wrong}, schema)


def test_constrained_decoding_can_be_built_from_the_schema():
    xgrammar = pytest.importorskip("xgrammar")
    for section in (SECTION, SMALL):
        xgrammar.Grammar.from_json_schema(json.dumps(output_schema(section)))
