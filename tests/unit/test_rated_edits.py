"""Edits that a judge rates without a trial: what of it is in the ledger, whenever a driver dies."""

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from judge_server import says, serving
from ledger_samples import begin
from made_crew import MadeCrew
from made_runs import configured, go, towns

from seal_ray.grading.rubric import AXES
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.exploring.verdicts import Verdicts
from seal_ray.records import Edit, Failure, Verdict
from seal_ray.sampling.sampler import EditPrompt


def test_an_edits_ratings_are_in_the_ledger_all_or_none(tmp_path: Path) -> None:
    ledger = begin(str(tmp_path))
    session: Any = SimpleNamespace(domain=None, grader=SimpleNamespace(name="lexical"), graders=None, rubric=None)
    known = Verdicts(session, ledger.round(1), {}, lambda event: None)
    edits = [f"edit-{n}" for n in range(12)]
    given = [Verdict(edit, axis, "rubric", None, 0.5) for edit in edits for axis in AXES]
    known.rated([*given, Verdict("lost", "rubric", "rubric", None, None, Failure("judge", "no reply", "infra"))], 1.0)
    ledger.flush()
    texts = [p.read_text() for p in sorted((tmp_path / "rounds/0001/verdicts").iterdir())]
    assert len(texts) > 1 and all(t.count(f'"{e}"') in {0, len(AXES)} for t in texts for e in edits), (
        "a driver that dies could leave a part of an edit's ratings, and whoever goes on would take them for all"
    )
    assert list(ledger.round(1).records("verdicts").values()) == given, "what was lost is asked for again"
    assert known.whole([*edits, "lost"]) == len(edits)
    ledger.close()


WRITTEN = Edit("e", "t", 0, "v", 1, (), (), (), "a text", "stop", "a text")
UNPARSED = dataclasses.replace(WRITTEN, text="", failure=Failure("no_text", "empty"))


def coverage(edit: Edit, reward: str, *, rated: int = 0, lost: int = 0, model: object = None) -> float:
    plan = SimpleNamespace(trials=False, edits=1, model=model)
    config = SimpleNamespace(grading=SimpleNamespace(reward=reward))
    grading = SimpleNamespace(whole=lambda edits: rated)
    known: Any = SimpleNamespace(
        plan=plan, edits={"t": [edit]}, lost=range(lost), _grading=grading, _config=config, ledger=None
    )
    return Exploration.coverage(known)


def test_nothing_is_missing_where_no_edit_could_be_rated() -> None:
    assert coverage(UNPARSED, "rubric") == coverage(UNPARSED, "predicted", model=object()) == 1.0
    assert coverage(UNPARSED, "rubric", lost=1) == 0.0, "what was lost may come on resume"


def test_a_model_of_gain_that_prunes_is_no_judges_opinion() -> None:
    assert coverage(WRITTEN, "rubric", model=object()) == 0.0
    assert coverage(WRITTEN, "rubric", rated=1, model=object()) == 1.0
    assert coverage(WRITTEN, "predicted", model=object()) == 1.0


class Unparsed(MadeCrew):
    def edit(self, prompt: EditPrompt) -> Edit:
        return dataclasses.replace(super().edit(prompt), text="")


def test_a_rated_round_without_an_edit_that_parses_comes_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"grading.reward": "rubric", "grading.judge_model": "m", "evaluation.every": "0", "run.rounds": "1"}
    data = towns(tmp_path / "p.json")
    with serving(lambda body, n: says(json.dumps(dict.fromkeys(AXES, 4)))) as judge:
        config = configured(
            data, tmp_path / "run", **changes, **{"grading.judge_url": judge.url, "grading.judge_key_env": "''"}
        )
        run, crew, _ = go(config, monkeypatch, crew=Unparsed)
    assert run.latest == 1 and (run.round(1).manifest or {})["decision"] == "no update" and not crew.jobs
