"""Whatever stands in a configuration: it is taken, or refused with one readable message; never anything else."""

import json
from pathlib import Path

import pytest
import yaml
from amounts import AMOUNTS
from configurations import ROOT, VALUES, WHOLE, mutated, overrides
from seeds import drawing

from seal_ray import config_checks, config_file
from seal_ray.commands import plan
from seal_ray.config import Config
from seal_ray.domains import training_tasks
from seal_ray.errors import ConfigError, SealError


def taken(text: str, changes: list[str] | None = None) -> Config | None:
    """The configuration, proven fit for a record; None where it is refused."""
    try:
        config = config_file.parse(text, "run.yaml", changes or [])
    except ConfigError as error:
        assert len(str(error)) < 20_000
        str(error).encode()
        return None
    record = json.dumps(config.model_dump(mode="json"), allow_nan=False)
    assert config_file.resolved(json.loads(record)) == config, "what a run records is read back as the same"
    assert len(config.digest) == 64
    return config


def planned(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `validate` and `plan` do with it."""
    monkeypatch.chdir(ROOT)
    try:
        training_tasks(config)
        made = plan.make(config)
        plan.show(made)
        json.dumps(made, allow_nan=False)
    except SealError as error:
        assert error.exit_code in {2, 3}


@pytest.mark.parametrize("name", sorted(WHOLE))
def test_a_strange_text_is_refused_or_taken(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = taken(WHOLE[name])
    assert (config is not None) == (name in {"nothing", "a date"})
    assert (taken(WHOLE[name], ["run.seed=3"]) is not None) == (config is not None)
    if config:
        planned(config, monkeypatch)


@pytest.mark.parametrize("value", VALUES)
def test_each_value_is_refused_with_its_line_or_taken(value: str) -> None:
    for before in ("inner:\n  rank: ", "domain:\n  name: x\n  options:\n    a: "):
        try:
            config_file.parse(f"{before}{value}\n", "run.yaml")
        except ConfigError as error:
            str(error).encode()
            assert "line" in str(error) or "run.yaml" in str(error)


@pytest.mark.parametrize("field", ["run.budget.hours", "inner.lr", "policy.beta", "gate.min_gain", "select.threshold"])
@pytest.mark.parametrize("value", [".nan", ".inf", "-.inf", "1e999"])
def test_what_is_no_number_is_refused(field: str, value: str) -> None:
    with pytest.raises(ConfigError, match=rf"{field}: .*(finite|input should be)"):
        config_file.parse("", "run.yaml", [f"{field}={value}"])


@pytest.mark.parametrize(
    "address", ["http://[::1", "http://h:99999999", "http://h:x", "http://", "//h", "'http://a b'"]
)
@pytest.mark.parametrize("field", ["grading.judge_url", "storage.endpoint"])
def test_an_address_that_is_none_is_refused(field: str, address: str) -> None:
    with pytest.raises(ConfigError, match=rf"{field}.*not a URL"):
        config_file.parse("", "run.yaml", [f"{field}={address}"])


def test_no_field_takes_nan_or_infinity() -> None:
    tree = Config().model_dump(mode="json")
    fields = [
        f"{s}.{k}"
        for s, section in tree.items()
        for k, v in section.items()
        if type(v) in {int, float} and s != "domain"
    ]
    assert len(fields) > 60
    for field in fields:
        for value in (".nan", ".inf", "-.inf"):
            assert taken("", [f"{field}={value}"]) is None, f"{field}={value}"


def test_a_key_given_twice_is_named_with_its_line() -> None:
    with pytest.raises(ConfigError, match=r"run\.yaml line 3.*rank.*twice"):
        config_file.parse("inner:\n  rank: 64\n  rank: 32\n", "run.yaml")


def test_a_typo_in_a_domain_is_offered_that_domains_keys() -> None:
    with pytest.raises(ConfigError, match="did you mean grid_format"):
        config_file.parse("domain: {name: arc, data: a.json, gird_format: lists}\n", "run.yaml")
    with pytest.raises(ConfigError, match="did you mean split_lines"):
        config_file.parse("domain: {split_lnies: true}\n", "run.yaml")


def test_aliases_that_multiply_nothing_are_taken() -> None:
    config = config_file.parse("inner: {targets: &t [q_proj, v_proj]}\npolicy: {targets: *t}\n", "run.yaml")
    assert config.policy.targets == config.inner.targets == ("q_proj", "v_proj")


def test_a_number_of_unknown_keys_is_told_in_a_few_lines() -> None:
    with pytest.raises(ConfigError, match="more like these") as caught:
        config_file.parse(WHOLE["unknown keys"], "run.yaml")
    assert len(str(caught.value).splitlines()) < 30


def test_the_template_is_what_the_strict_reader_takes() -> None:
    tree = yaml.safe_load(config_file.template())
    assert config_file.parse(config_file.template(), "run.yaml") == Config.model_validate(tree) == Config()


def attack(seed: str, texts: int, monkeypatch: pytest.MonkeyPatch) -> int:
    draw = drawing(seed)
    good = 0
    for number in range(texts):
        text, changes = mutated(draw), overrides(draw)
        try:
            config = taken(text, changes)
            if config:
                good += 1
                planned(config, monkeypatch)
        except Exception as error:
            raise AssertionError(f"{seed} {number} --set {changes}: {type(error).__name__}: {error}\n{text}") from error
    return good


def test_mutated_configurations_are_refused_or_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    amount = AMOUNTS["configuration"]
    good = attack("configuration", amount.quick, monkeypatch)
    assert 0 < good < amount.quick


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(AMOUNTS["configuration"].times))
def test_many_mutated_configurations_are_refused_or_taken(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    attack(f"configuration {seed}", AMOUNTS["configuration"].long, monkeypatch)


def test_a_file_of_any_bytes_is_refused_or_taken(tmp_path: Path) -> None:
    draw = drawing("bytes")
    for _ in range(100):
        path = tmp_path / "run.yaml"
        path.write_bytes(
            bytes(draw.choice(b"ab:-\n [{&*!\xff\x00\xc3\xa9\xed\xa0\x80'\"") for _ in range(draw.randrange(40)))
        )
        try:
            config_file.load(path)
        except ConfigError as error:
            str(error).encode()


def test_float32_with_adapters_on_a_gpu_is_refused_before_anything_starts() -> None:
    on_gpu = ["model.dtype=float32", "placement.device=gpu"]
    for more in ([], ["policy.mode=full", "answering.how=engine"]):
        with pytest.raises(ConfigError, match=r"model\.dtype"):
            config_checks.check(config_file.parse("", "run.yaml", [*on_gpu, *more]))
    for other in (["model.dtype=float32", "placement.device=cpu"], [*on_gpu, "policy.mode=full", "answering.how=bank"]):
        config_checks.check(config_file.parse("", "run.yaml", other))
