"""The archive of versions: who may be a parent, and how one is drawn."""

from collections import Counter
from pathlib import Path

import pytest
from made_runs import configured as town_run
from made_runs import go, towns

from seal_ray import config_file
from seal_ray.commands import decisions, report, terminal
from seal_ray.config import Config, StorageSection
from seal_ray.loops import parents, rounds
from seal_ray.loops.history import Run
from seal_ray.policy import versions
from seal_ray.policy.archive import Archived, best, drawn
from seal_ray.policy.versions import tree
from seal_ray.records import Version, digest, encode
from seal_ray.storage.ledger import Ledger

BASE = "base-model"


def version(number: int, parent: Version) -> Version:
    name = digest([parent.digest, number])
    return Version(number, name, BASE, parent.digest, f"rounds/{number:04d}/version", "adapter", 4)


FIRST = versions.first(BASE)
ONE, TWO = version(1, FIRST), version(2, FIRST)


def test_the_best_is_the_accepted_one_with_the_highest_score() -> None:
    archive = [
        Archived(FIRST, 0.2, 2, True),
        Archived(ONE, 0.3, 0, True),
        Archived(TWO, 0.9, 0, False),
        Archived(version(3, ONE), None, 0, True),
    ]
    assert best(archive).version == ONE
    assert best([Archived(FIRST, None, 1, True), Archived(ONE, None, 0, True)]).version == ONE


def test_the_archive_draws_by_score_and_by_how_few_children_there_are() -> None:
    archive = [Archived(FIRST, 0.2, 3, True), Archived(ONE, 0.6, 0, True), Archived(TWO, 0.4, 0, False)]
    count = Counter(drawn(archive, seed)[0].version.number for seed in range(400))
    _, chances = drawn(archive, 1)
    assert sum(chances.values()) == pytest.approx(1)
    for one in archive:
        assert count[one.version.number] / 400 == pytest.approx(chances[one.version.digest], abs=0.1)
    assert count[1] > count[2] > count[0] > 0, "a rejected version and the base are drawn too"
    assert drawn(archive, 5)[0] == drawn(archive[::-1], 5)[0], "the same for the same seed"


def test_without_scores_only_the_children_count() -> None:
    _, chances = drawn([Archived(FIRST, None, 1, True), Archived(ONE, None, 0, True)], 1)
    assert chances[ONE.digest] == pytest.approx(2 * chances[FIRST.digest])


def configured(uri: str, parent: str) -> Config:
    return config_file.parse("", "nothing", [f"run.uri={uri}", f"run.parent={parent}", "run.rounds=9"])


def ledger_of(uri: str, decisions: list[str], parent: str) -> Ledger:
    """Rounds with these decisions, each from the parent that the archive gives; score and number go together."""
    config = configured(uri, parent)
    ledger = Ledger(uri)
    ledger.create(config.model_dump(mode="json"), {}, config.run.seed)
    ledger.acquire("test")
    for number, decision in enumerate(decisions, 1):
        part = ledger.round(number)
        began = parents.parent_of(ledger, number, BASE, config)
        part.put("tasks.json", {"tasks": [], "version": encode(began)})
        new = version(number, began)
        part.put("update.json", {"version": encode(new), "edits": [], "losses": [1.0], "steps": 1, "kl": 0.0})
        part.put("gate.json", {"decision": decision, "figures": {"old": 0.1, "new": number / 10}, "reasons": []})
        current = new if decision == "accept" else began
        part.commit({"version": encode(current), "decision": decision})
    return ledger


def test_four_rounds_from_the_archive_make_a_tree_of_all_versions(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    ledger = ledger_of(uri, ["reject", "accept", "reject", "accept"], "archive")
    began = [parents.parent_of(ledger, n, BASE, configured(uri, "archive")).number for n in (1, 2, 3, 4)]
    ledger.close()
    assert began[0] == 0
    known = {one.version.number: one for one in parents.archive_of(ledger, BASE)}
    assert [known[n].accepted for n in (0, 1, 2, 3, 4)] == [True, False, True, False, True]
    assert sum(one.children for one in known.values()) == 4
    lines = tree(Run(uri).lineage())
    assert all(f"version {n}" in lines for n in range(5))
    assert report.overview(Run(uri))["lineage"] == lines, "the page draws it"


def test_a_run_without_a_version_of_its_own_has_no_tree_to_draw(tmp_path: Path) -> None:
    ledger_of(str(tmp_path / "run"), [], "latest").close()
    assert report.overview(Run(str(tmp_path / "run")))["lineage"] is None


def test_a_round_that_begins_with_a_rejected_version_goes_on_from_it(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    ledger = ledger_of(uri, ["reject"], "archive")
    rejected = parents.archive_of(ledger, BASE)
    (one,) = [a for a in rejected if not a.accepted]
    part = ledger.round(2)
    part.put("parent.json", {"by": "run.parent: archive", "why": "drawn", "version": encode(one.version)})
    config = configured(uri, "archive")
    began = parents.parent_of(ledger, 2, BASE, config)
    assert began == one.version
    part.put("tasks.json", {"tasks": [], "version": encode(began)})
    child = version(2, began)
    part.put("update.json", {"version": encode(child), "edits": [], "losses": [1.0], "steps": 1, "kl": 0.0})
    part.put("gate.json", {"decision": "accept", "figures": {"old": 0.2, "new": 0.5}, "reasons": []})
    part.commit({"version": encode(child), "decision": "accept"})
    ledger.close()
    (root,) = Run(uri).lineage()
    (rejected_node,) = root["children"]
    (child_node,) = rejected_node["children"]
    assert (rejected_node["gate"]["decision"], child_node["gate"]["decision"]) == ("reject", "accept")
    assert child_node["current"] and Run(uri).current() == child


def test_an_archive_in_which_everything_was_rejected_still_has_the_base_and_the_rejected(tmp_path: Path) -> None:
    ledger = ledger_of(str(tmp_path / "run"), ["reject", "reject", "reject"], "archive")
    ledger.close()
    archive = parents.archive_of(ledger, BASE)
    assert len(archive) == 4 and sum(one.accepted for one in archive) == 1
    assert best(archive).version == FIRST
    assert len({drawn(archive, seed)[0].version.number for seed in range(60)}) == 4


def test_what_was_drawn_is_kept_and_a_person_may_still_name_another(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    ledger = ledger_of(uri, ["accept", "accept"], "best")
    assert parents.parent_of(ledger, 3, BASE, configured(uri, "best")).number == 2
    said = parents.said(ledger.round(3))
    assert said and said["by"] == "run.parent: best" and said["why"] == "0.200"
    ledger.close()
    decisions.rollback(uri, StorageSection(), to=1, why="it writes worse edits")
    ledger = Ledger(uri, read_only=True)
    assert parents.parent_of(ledger, 3, BASE, configured(uri, "best")).number == 1


def test_what_an_older_version_called_rollback_is_read(tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    ledger = ledger_of(uri, ["accept", "accept"], "latest")
    ledger.round(3).put("rollback.json", {"by": "a person", "why": "", "to": 1, "version": encode(version(1, FIRST))})
    assert parents.parent_of(ledger, 3, BASE, configured(uri, "latest")).number == 1
    ledger.close()
    assert (Run(uri).rollback() or {})["by"] == "a person"


def rejected_parent(path: Path, patch: pytest.MonkeyPatch, second: str) -> Run:
    """Round 1 is accepted and round 2 rejected; round 3 begins with the rejected version and ends as `second` says."""
    said = iter(["accept", "reject", second])
    patch.setattr(rounds, "pass_gate", lambda *a: next(said))
    settings = {"run.parent": "archive", "evaluation.every": 0, "inner.repeats": 1}
    data, uri = towns(path / "towns.json"), path / "run"
    two, _, _ = go(town_run(data, uri, **settings, **{"run.rounds": 2}), patch)
    current, rejected = two.current(), two.round(2).update
    assert current and current.number == 1 and rejected
    ledger = Ledger(str(uri))
    ledger.acquire("test")
    drawn_one = {"by": "run.parent: archive", "why": "drawn", "version": rejected["version"]}
    ledger.round(3).put("parent.json", drawn_one)
    ledger.close()
    found = terminal.status(Run(str(uri)))
    assert (found["current"], found["rollback"]) == (1, None), "a round that has begun with it makes nothing current"
    run, _, _ = go(town_run(data, uri, **settings), patch)
    begun = run.round(3).version
    assert begun and begun.number == 2
    return run


@pytest.mark.parametrize("decision", ["reject", "no update"])
def test_where_nothing_is_accepted_of_a_drawn_parent_what_was_current_stays(
    decision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = rejected_parent(tmp_path, monkeypatch, decision)
    current, manifest = run.current(), run.round(3).manifest
    assert current and current.number == 1 and manifest and manifest["version"]["number"] == 1
    assert [one.version.number for one in parents.archive_of(run.ledger, current.base) if one.accepted] == [0, 1]


def test_a_child_of_a_rejected_parent_that_is_accepted_becomes_current(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = rejected_parent(tmp_path, monkeypatch, "accept").current()
    assert current and current.number == 3


def test_what_a_person_went_back_to_stays_current_where_nothing_is_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = iter(["accept", "accept", "reject"])
    monkeypatch.setattr(rounds, "pass_gate", lambda *a: next(said))
    settings = {"run.parent": "archive", "evaluation.every": 0, "inner.repeats": 1}
    data, uri = towns(tmp_path / "towns.json"), tmp_path / "run"
    go(town_run(data, uri, **settings, **{"run.rounds": 2}), monkeypatch)
    decisions.rollback(str(uri), StorageSection(), to=1, why="")
    run, _, _ = go(town_run(data, uri, **settings), monkeypatch)
    begun, current = run.round(3).version, run.current()
    assert begun and current and begun.digest == current.digest and current.number == 1
