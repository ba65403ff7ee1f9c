"""Whole rounds with a judge over real HTTP: one that is down costs no trial, and one that rates edits needs none."""

import json
from pathlib import Path

import pytest
from command import seal_ray
from judge_server import JudgeReply, says, serving, truth

from seal_ray.loops.history import Run
from seal_ray.storage.verification import verify

ONE_ROUND = ("run", "jobs/tiny.yaml", "--set", "run.rounds=1")
JUDGE = {"judge_model": "m", "judge_key_env": "", "judge_retries": 0, "judge_timeout": 10}


def settings(uri: str, **grading: object) -> list[str]:
    words = ["--set", f"run.uri={uri}"]
    for key, value in (JUDGE | grading).items():
        words += ["--set", f"grading.{key}={value if value != '' else json.dumps('')}"]
    return words


@pytest.mark.slow
def test_what_a_judge_that_was_down_could_not_say_is_graded_later_without_any_trial(tmp_path: Path) -> None:
    uri, down = str(tmp_path / "run"), [True]

    def behave(body: dict[str, object], attempt: int) -> JudgeReply:
        return (500, {}, b"{}") if down[0] else truth(body)

    with serving(behave) as server:
        words = (*ONE_ROUND, *settings(uri, grader="judge", judge_url=server.url, reward="accuracy"))
        refused = seal_ray(*words, expect=3)
        assert "have a verdict" in refused.stderr and "Traceback" not in refused.stderr
        before = Run(uri).round(1)
        assert before.trials and before.rewards is None and not before.verdicts
        down[0] = False
        found = json.loads(seal_ray("regrade", uri, "--json").stdout)
        assert found["rounds"][0]["new"] == found["rounds"][0]["verdicts"] > 0
        asked = len(server.bodies)
        seal_ray(*words)
        assert len(server.bodies) == asked  # what is known is not asked for again
    after = Run(uri).round(1)
    assert after.committed and {t.candidate for t in after.trials} == {t.candidate for t in before.trials}
    assert len(after.verdicts) == found["rounds"][0]["verdicts"]
    other = json.loads(seal_ray("regrade", uri, "--set", "grading.grader=exact", "--json").stdout)
    assert other["rounds"][0]["verdicts"] == len(after.verdicts) and other["rounds"][0]["agreement"] is not None
    assert list(Path(uri, "regrades").rglob("0001.json")) and not verify(Run(uri).ledger)
    wrong = seal_ray("regrade", uri, "--set", "inner.rank=2", expect=2)
    assert "only settings of grading" in wrong.stderr


@pytest.mark.slow
def test_a_round_by_rubric_tries_nothing_and_keeps_what_the_judge_rates_highest(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")

    def rate(body: dict[str, object], attempt: int) -> JudgeReply:
        score = 1 + len(json.dumps(body["messages"])) % 5
        return says(json.dumps(dict.fromkeys(("length", "diversity", "quality", "correctness"), score)))

    with serving(rate) as server:
        seal_ray(*ONE_ROUND, *settings(uri, judge_url=server.url, reward="rubric"))
        assert len(server.bodies) == sum(not e.failure for e in Run(uri).round(1).edits)
    found = Run(uri).round(1)
    assert found.committed and not found.trials and not found.candidates
    worth = {r["edit"]: r["value"]["mean"] for r in (found.rewards or {})["rewards"]}
    assert found.choices
    for choice in found.choices:
        rivals = [e.id for e in found.edits if e.task == choice.task and e.id in worth]
        assert worth[choice.edit] == max(worth[e] for e in rivals) > 0
