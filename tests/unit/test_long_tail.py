"""Questions by kind in every report: what a mean over all of them hides, arm by arm and with intervals."""

import json
from pathlib import Path
from typing import Any

import pytest
from recorded_run import record

from seal_ray.commands import long_tail, report
from seal_ray.config import AnsweringSection, Config, DocumentsDomain, KnowledgeDomain, StorageSection
from seal_ray.domains import Teller, load_domain
from seal_ray.errors import ConfigError, DataError
from seal_ray.loops.history import Run
from seal_ray.policy import versions
from seal_ray.records import Candidate, CandidateKind, Json, Likelihood, Recipe, Task, Trial, Verdict, digest, encode
from seal_ray.storage.ledger import Ledger

COMMON, RARE = "a grey stone", "1902"


def domain_of(path: Path, **section: Any) -> Any:
    made = KnowledgeDomain(data=str(path), validation=0, test=0, **section)
    return load_domain(
        made, recipe=Recipe(), answering=AnsweringSection(), chat=False, seed=1, read=lambda p: Path(p).read_bytes()
    )


def towns() -> list[dict[str, Any]]:
    """Eight towns: each has a common answer that stands in every passage, and one of its own."""
    return [
        {
            "title": f"Town {n}",
            "context": f"Town {n} is built of {COMMON}, and has a harbour of {1900 + n}.",
            "questions": [
                {"question": f"What is town {n} built of?", "answer": COMMON, "level": "easy"},
                {"question": f"When was the harbour of town {n} built?", "answer": str(1900 + n)},
            ],
            "level": "hard",
        }
        for n in range(8)
    ]


def made(tmp_path: Path, arms: list[str] | None = None) -> Run:
    """One round in which training helps with what is common only; of an evaluation, one round for each arm."""
    data = tmp_path / "towns.json"
    data.write_text(json.dumps(towns()))
    tasks = domain_of(data, slice_by="level").tasks("train")
    config = Config(domain=KnowledgeDomain(data=str(data), slice_by="level", validation=0, test=0))
    ledger = Ledger(str(tmp_path / "run"), StorageSection())
    ledger.create(config.model_dump(mode="json"), {}, 1)
    ledger.acquire("test")
    for number, arm in enumerate(arms or [""], 1):
        part = ledger.round(number)
        part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(versions.first(digest("b")))})
        if arm:
            part.put("arm.json", {"arm": arm})
        for task in tasks:
            kinds: list[CandidateKind] = ["baseline"] if arm == "none" else ["baseline", "edit"]
            for kind in kinds:
                tried(part, task, kind, f"{number}-{task.id}-{kind}")
        part.commit({})
    ledger.close()
    return Run(str(tmp_path / "run"))


def tried(part: Any, task: Task, kind: CandidateKind, name: str) -> None:
    part.append("candidates", Candidate(name, task.id, kind, "e" if kind == "edit" else None, 0, 0, 0, None))
    ids = [f"{task.id}#{n}" for n in range(2)]
    likely = tuple(Likelihood(q, 0, -1.0 - 9 * n, 1) for n, q in enumerate(ids))
    part.append("trials", Trial(name, task.id, likelihoods=likely))
    for n, q in enumerate(ids):
        right = kind == "edit" and n == 0
        part.append("verdicts", Verdict(name, q, "lexical", right, float(right)))


def by(told: Json, kind: str) -> dict[str, Any]:
    return {s["name"]: s for s in told["slices"] if s["by"] == kind}


def test_the_rare_and_the_unlikely_are_told_apart_from_the_mean(tmp_path: Path) -> None:
    run = made(tmp_path)
    told = report.overview(run)["long_tail"]
    assert told and told["arms"] == ["base", "edit"]
    assert by(told, "all")["all questions"]["arms"]["edit"][0] == 0.5
    rare = by(told, "rarity of the answer")
    assert {n: s["arms"]["edit"][0] for n, s in rare.items()} == {"in one passage": 0.0, "in more than three": 1.0}
    assert rare["in more than three"]["gains"]["edit"] == [1.0, 1.0, 1.0, 8]
    likely = by(told, "base likelihood")
    assert likely["least likely third"]["arms"]["edit"][0] == 0 and likely["likeliest third"]["arms"]["edit"][0] == 1
    assert {n: s["questions"] for n, s in by(told, "answer").items()} == {"number": 8, "phrase": 8}
    assert set(by(told, "asked with")) == {"what", "when"} and len(by(told, "title")) == 8
    mixed = likely["middle third"]["arms"]["edit"]
    assert mixed[1] < mixed[0] < mixed[2] and mixed[3] == 5
    assert by(told, "all")["all questions"]["arms"]["edit"] == [0.5, 0.5, 0.5, 16], "each town is half right"
    assert {tuple(s["arms"]["edit"]) for s in by(told, "title").values()} == {(0.5, None, None, 2)}, (
        "what is asked of one passage shares its edits, and tells nothing of others"
    )


def test_the_datas_own_field_is_a_slice(tmp_path: Path) -> None:
    own = by(report.overview(made(tmp_path))["long_tail"], "level")
    assert {n: (s["questions"], s["arms"]["edit"][0]) for n, s in own.items()} == {"easy": (8, 1.0), "hard": (8, 0.0)}


def test_the_arms_of_an_evaluation_are_compared_on_the_same_questions(tmp_path: Path) -> None:
    told = report.overview(made(tmp_path, ["none", "untrained"]))["long_tail"]
    assert told["arms"] == ["none", "untrained"] and by(told, "all")["all questions"]["questions"] == 16
    assert by(told, "level")["easy"]["gains"]["untrained"][0] == 1.0


def test_every_report_of_a_run_has_slices_and_each_question_is_in_one_of_each_kind(tmp_path: Path) -> None:
    record(str(tmp_path / "run"), rounds=2)
    run = Run(str(tmp_path / "run"))
    assert long_tail.by_kind(run, Teller(None)) is None, "without its domain nobody knows a run's questions"
    told: Any = report.overview(run)["long_tail"]
    assert told["arms"] == ["base", "edit", "kept"]
    counts = {kind: sum(s["questions"] for s in told["slices"] if s["by"] == kind) for kind in {"all", "title"}}
    assert len(set(counts.values())) == 1
    for s in told["slices"]:
        for mean, low, high, n in filter(None, s["arms"].values()):
            assert (low is None or low <= mean <= high) and n <= s["questions"]


def test_a_run_without_a_verdict_has_none(tmp_path: Path) -> None:
    ledger = Ledger(str(tmp_path / "run"), StorageSection())
    ledger.create(Config().model_dump(mode="json"), {}, 1)
    ledger.close()
    assert report.overview(Run(str(tmp_path / "run")))["long_tail"] is None


def test_a_field_that_is_not_there_or_no_plain_value_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "towns.json"
    rows = towns()
    data.write_text(json.dumps(rows))
    with pytest.raises(ConfigError, match=r"no passage and no question of .* has a field 'colour'"):
        domain_of(data, slice_by="colour").tasks("train")
    rows[0]["questions"][0]["level"] = ["a", "b"]
    data.write_text(json.dumps(rows))
    with pytest.raises(DataError, match=r"level is a list"):
        domain_of(data, slice_by="level").tasks("train")
    plain = domain_of(data).tasks("train")
    assert all(set(q) == {"question", "answers"} for t in plain for q in t.data["questions"]), (
        "tasks are what they were"
    )
    with pytest.raises(ValueError, match="documents have no fields"):
        DocumentsDomain(data="docs", slice_by="level")
