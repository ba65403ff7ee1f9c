"""What is worked on: passages that questions are about, and that a probe has not found known already."""

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from seal_ray import cli, config_file
from seal_ray.config import Config
from seal_ray.domains import configured as domain_of
from seal_ray.errors import ConfigError, DataError
from seal_ray.loops import evaluation, rounds, stream, study

LEAST = ("validation=0", "test=0")


class Opening:
    """A session at the moment when it asks whether the run may begin."""

    def __init__(self, config: Config, *, check: Any, **_: Any) -> None:
        self.config, self.domain, self.base = config, domain_of(config), "b" * 64
        check(self)
        raise AssertionError("the run would begin")


@pytest.fixture(autouse=True)
def opening(monkeypatch: pytest.MonkeyPatch) -> None:
    for loop in (evaluation, rounds, study, stream):
        monkeypatch.setattr(loop, "Session", Opening)


def documents(tmp_path: Path, *changes: str) -> Config:
    """Four documents; people ask about the two of them that `asked.json` names."""
    docs = tmp_path / "docs"
    docs.mkdir(exist_ok=True)
    towns = ("Selmouth", "Varnholm", "Tarnby", "Ostwick")
    for name in towns:
        (docs / f"{name}.md").write_text(f"# {name}\n\nThe clock of {name} was built by the miller of {name} Bridge.\n")
    rows = [
        {"question": f"Who built the clock of {name}?", "answer": f"the miller of {name} Bridge"} for name in towns[:2]
    ]
    (tmp_path / "asked.json").write_text(json.dumps(rows))
    given = [f"run.uri={tmp_path / 'run'}", "domain.name=documents", f"domain.data={docs}", "study.steps=2", *changes]
    return config_file.parse("", "test", given)


def weighed(tmp_path: Path, *weights: float, changes: tuple[str, ...] = ()) -> Config:
    rows = [
        {
            "title": f"Town {n}",
            "context": f"The bell of town {n} weighs {n + 3} stone.",
            "questions": [{"question": f"How much does the bell of town {n} weigh?", "answer": f"{n + 3} stone"}],
            "weight": weight,
        }
        for n, weight in enumerate(weights)
    ]
    (tmp_path / "rows.json").write_text(json.dumps(rows))
    given = [f"run.uri={tmp_path / 'run'}", f"domain.data={tmp_path}/rows.json", *(f"domain.{one}" for one in LEAST)]
    return config_file.parse("", "test", [*given, "study.steps=2", *changes])


def titles(tasks: Any) -> list[str]:
    return sorted(t.data["title"] for t in tasks)


def test_passages_of_which_nobody_asks_anything_are_refused_before_the_first_hour(tmp_path: Path) -> None:
    config = documents(tmp_path)
    for begin in (
        lambda: rounds.run(config),
        lambda: evaluation.evaluate(config, ["none", "context"], split="train"),
        lambda: study.study(config),
        lambda: stream.stream(config),
    ):
        with pytest.raises(ConfigError, match=r"no question is about any of the 4 passages.*seal-ray probe"):
            begin()
    with pytest.raises(AssertionError, match="would begin"):  # a judge of the edits themselves asks nothing
        judged = ("grading.reward=rubric", "grading.judge_url=http://localhost:1/v1", "grading.judge_model=m")
        rounds.run(documents(tmp_path, *judged))
    with pytest.raises(AssertionError, match="would begin"):
        rounds.run(documents(tmp_path, f"domain.questions={tmp_path}/asked.json"))


def test_validate_refuses_what_a_run_refuses(tmp_path: Path) -> None:
    def validated(*changes: str) -> Any:
        documents(tmp_path)
        file = tmp_path / "job.yaml"
        file.write_text(f"run: {{uri: {tmp_path}/run}}\ndomain: {{name: documents, data: {tmp_path}/docs}}\n")
        words = [word for change in changes for word in ("--set", change)]
        return CliRunner().invoke(cli.app, ["validate", str(file), *words])

    with pytest.raises(ConfigError) as refused:
        rounds.run(documents(tmp_path))
    assert str(validated().exception) == str(refused.value) and "valid" not in validated().output
    assert validated(f"domain.questions={tmp_path}/asked.json").exit_code == 0
    judged = ("grading.reward=rubric", "grading.judge_url=http://localhost:1/v1", "grading.judge_model=m")
    assert validated(*judged).exit_code == 0


def test_what_nobody_asks_about_is_in_no_round_and_no_study(tmp_path: Path) -> None:
    config = documents(tmp_path, f"domain.questions={tmp_path}/asked.json")
    kept: dict[str, Any] = {}
    part: Any = SimpleNamespace(number=1, get=kept.get, put=kept.__setitem__)
    ledger = SimpleNamespace(round=lambda number: SimpleNamespace(get=lambda name: None))
    session: Any = SimpleNamespace(
        config=config, domain=domain_of(config), base="b" * 64, ledger=ledger, tell=lambda event: None
    )
    tasks, _ = rounds.begin(session, part)
    drawn = stream._drawn(session)
    names = {t.id: t.data["title"] for t in session.domain.tasks("train")}
    assert titles(tasks) == titles(study._tasks(session)) == ["Selmouth", "Varnholm"]
    assert sorted(names[one] for (one,) in drawn["sequences"][0]) == ["Selmouth", "Varnholm"]


def test_where_everything_is_known_nothing_is_begun(tmp_path: Path) -> None:
    known = weighed(tmp_path, 0, 0, 0)
    for begin in (lambda: rounds.run(known), lambda: study.study(known), lambda: stream.stream(known)):
        with pytest.raises(ConfigError, match=r"all 3 tasks have the weight 0.*nothing is left to learn"):
            begin()
    with pytest.raises(AssertionError, match="would begin"):  # how well it is known may be asked all the same
        evaluation.evaluate(known, ["none", "context"], split="train")


def test_a_study_and_a_stream_leave_alone_what_is_known(tmp_path: Path) -> None:
    config = weighed(tmp_path, 0, 0.9, 0, 0.5, changes=("study.tasks=3",))
    session: Any = SimpleNamespace(config=config, domain=domain_of(config))
    assert titles(study._tasks(session)) == ["Town 1", "Town 3"]
    names = {t.id: t.data["title"] for t in session.domain.tasks("train")}
    assert sorted(names[one] for (one,) in stream._drawn(session)["sequences"][0]) == ["Town 1", "Town 3"]
    with pytest.raises(ConfigError, match="want 3, and the split train has 2 beside 2 without a question or known"):
        stream.stream(weighed(tmp_path, 0, 0.9, 0, 0.5, changes=("study.steps=3",)))


def test_a_study_without_weights_takes_the_first_ones_and_one_that_has_begun_keeps_its_own(tmp_path: Path) -> None:
    config = weighed(tmp_path, 1, 1, 1, 1, changes=("study.tasks=2",))
    domain = domain_of(config)
    first, second, third, _ = domain.tasks("train")
    arms: dict[str, Any] = {}
    ledger = SimpleNamespace(round=lambda number: SimpleNamespace(get=arms.get))
    session: Any = SimpleNamespace(config=config, domain=domain, ledger=ledger)
    assert study._begun_with(session) == (first, second)
    arms["arm.json"] = {"arm": "none", "tasks": [third.id, first.id]}  # as an older version may have chosen them
    assert study._begun_with(session) == (third, first)
    arms["arm.json"] = {"arm": "none", "tasks": ["gone"]}
    with pytest.raises(DataError, match="task gone of this study is not in the data any more"):
        study._begun_with(session)
