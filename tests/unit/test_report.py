"""The report: what it says of a run, and that nothing in a run can get out of the place that it was given."""

import base64
import dataclasses
import hashlib
import json
import re
import tomllib
from fnmatch import fnmatch
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import pytest
from made_events import make
from recorded_run import HOSTILE, record

from seal_ray.commands import report
from seal_ray.commands.task_pages import Reader
from seal_ray.config import Config
from seal_ray.domains import Teller
from seal_ray.domains.knowledge import training_texts
from seal_ray.errors import ConfigError
from seal_ray.events import Phase, TrialFailed
from seal_ray.loops.history import Run
from seal_ray.observe.report import LIMITS, Page, compose
from seal_ray.records import Candidate
from seal_ray.storage.deletion import delete_task
from seal_ray.storage.ledger import Ledger

PAGE = files("seal_ray.observe") / "page"


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    place = str(tmp_path_factory.mktemp("run") / "run")
    record(place, rounds=2)
    return place


@pytest.fixture(scope="module")
def pages(uri: str) -> dict[str, Page]:
    return {str(p.task["id"]): p for p in report.pages(Run(uri))}


@pytest.fixture(scope="module")
def html(uri: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    to = tmp_path_factory.mktemp("report") / "sub" / "report.html"
    report.write(Run(uri), to)
    return to.read_text(encoding="utf-8")


def embedded(html: str) -> dict[str, Any]:
    found = re.findall(r'<script type="application/json" id="([a-z0-9-]+)">(.*?)</script>', html, re.DOTALL)
    return {name: json.loads(text) for name, text in found}


# nothing gets out


def test_what_a_model_wrote_stays_in_its_place(html: str) -> None:
    data = embedded(html)
    texts = [e["text"] for name, page in data.items() if name.startswith("page-") for e in page["edits"]]
    assert any(t.startswith(HOSTILE) for t in texts), "the text comes back as it was written"
    assert len(re.findall("</script", html, re.IGNORECASE)) == len(data) + 1, "no element ends but those of the page"
    assert "<img" not in html and "<!--" not in html


def test_the_page_lets_in_no_script_and_no_style_but_its_own_and_asks_for_nothing(html: str) -> None:
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', html)
    rules = dict(rule.strip().split(" ", 1) for rule in policy[0].split(";"))
    assert rules["default-src"] == "'none'" and rules["base-uri"] == "'none'" and rules["form-action"] == "'none'"
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        inline = re.findall(f"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert len(inline) == 1
        digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    head = html.split('<script type="application/json"')[0]
    assert set(re.findall(r'(?:src|href)="([^"]*)"', head)) == {"data:,", "#main"}


def test_the_script_has_no_way_to_make_markup_of_text() -> None:
    text = "".join(file.read_text(encoding="utf-8") for file in PAGE.iterdir())
    assert not re.search(r"(inner|outer|Adjacent)HTML|document\.write|DOMParser|ContextualFragment", text)
    assert not re.search(r"\beval\b|Function\(|setTimeout\(\s*[\"'`]", text)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)|@import|url\(|\bfetch\(|XMLHttpRequest", text)


def test_the_page_is_part_of_the_package() -> None:
    package = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["tool"]["setuptools"]
    patterns = package["package-data"]["seal_ray"]
    for file in PAGE.iterdir():
        assert any(fnmatch(f"observe/page/{file.name}", p) for p in patterns), f"{file.name} would not be installed"


# what it says


def test_figures_are_those_of_the_ledger(uri: str) -> None:
    run = Run(uri)
    told = report.overview(run)
    assert [r["round"] for r in told["rounds"]] == [1, 2] and told["committed"] == 2 and told["state"] == "done"
    for mine, row, found in zip(told["rounds"], run.table(), run.rounds(), strict=True):
        assert mine["arms"] == row["arms"] and mine["reliability"] == row["reliability"]
        assert mine["kept"] == len(found.choices) == 3
        assert mine["candidates"] == len(found.candidates) and mine["trials"] == len(found.trials)
        rewards = (found.rewards or {})["rewards"]
        assert [v for v, _ in mine["rewards"]] == [round(r["value"]["mean"], 4) for r in rewards]
        assert [bool(k) for _, k in mine["rewards"]] == [r["edit"] in {c.edit for c in found.choices} for r in rewards]
        assert mine["gate"] == found.gate and mine["update"]["version"] == found.number
        assert mine["update"]["validation_losses"] == [2.75, 2.25]
        assert mine["cost"]["edit"]["trials"] + mine["cost"]["baseline"]["trials"] == mine["trials"]
    assert told["config"] == run.record["config"]


def test_a_page_shows_each_edit_with_its_texts_answers_verdicts_reward_and_why_it_was_kept(
    uri: str, pages: dict[str, Page]
) -> None:
    found = Run(uri).round(2)
    page = pages["harbour-2-1"]
    rewards = {r["edit"]: r for r in (found.rewards or {})["rewards"]}
    kept = {c.edit: c.reason for c in found.choices}
    mine = {e.id: e for e in found.edits if e.task == "harbour-2-1"}
    assert [e["id"] for e in page.body["edits"]] == [e.id for e in sorted(mine.values(), key=lambda e: e.slot)]
    task = next(t for t in found.tasks if t.id == "harbour-2-1")
    for shown in page.body["edits"]:
        edit = mine[shown["id"]]
        assert shown["reward"][0] == pytest.approx(rewards[edit.id]["value"]["mean"], abs=1e-4)
        assert shown["why"] == kept.get(edit.id) and (shown["weight"] == 1.0) == (edit.id in kept)
        trained, data = shown["trained"], task.data
        whole = training_texts(str(edit.content), title=data["title"], context=data["context"])
        assert [f"{trained['title']}\n{t}" for t in trained["texts"]] == whole[:-1] and trained["context"]
        for candidate in shown["candidates"]:
            trial = next(t for t in found.trials if t.candidate == candidate["id"])
            assert [a[0][0] for a in candidate["answers"]] == [a.text for a in trial.answers]
            said = [v.correct for v in found.verdicts if v.candidate == trial.candidate]
            assert [v["correct"] for v in candidate["verdicts"]] == said
            assert candidate["losses"][0] == pytest.approx(trial.losses[0])
    assert [q["text"] for q in page.body["questions"]] == [q["question"] for q in task.data["questions"]]
    assert [c["kind"] for c in page.body["alone"]] == ["baseline"]


def test_what_failed_shows_as_failed_and_has_no_number(pages: dict[str, Page]) -> None:
    first = pages["harbour-1-0"].body["edits"]
    unparsed = first[-1]
    assert unparsed["failure"]["kind"] == "no_text" and unparsed["reward"] is None and not unparsed["candidates"]
    failed = [c for e in first for c in e["candidates"] if c["state"] == "failed"]
    assert [c["failure"]["kind"] for c in failed] == ["nan_loss"]
    assert not {"accuracy", "likelihood", "losses"} & failed[0].keys()
    unsaid = [v for e in first for c in e["candidates"] for v in c.get("verdicts", []) if v and "failure" in v]
    assert [(v["correct"], v["score"], v["failure"]["kind"]) for v in unsaid] == [(None, None, "judge")]
    line = next(e for e in pages["harbour-1-0"].edits if e["id"] == unparsed["id"])
    assert line["reward"] is None and line["trials"] == 0 and line["failure"]["kind"] == "no_text"


def test_failures_are_counted_by_kind(uri: str) -> None:
    lines = [(f["round"], f["what"], f["kind"], f["count"]) for f in report.overview(Run(uri))["failures"]]
    assert sorted(lines) == [
        (1, "edit", "no_text", 1),
        (1, "trial of an edit", "nan_loss", 1),
        (1, "verdict", "judge", 1),
    ]


def test_directives_are_shown_as_what_they_say_and_one_verdict_stands_for_several_views(tmp_path: Path) -> None:
    record(str(tmp_path), puzzles=True)
    page = next(p for p in report.pages(Run(str(tmp_path))) if p.task["id"] == "puzzle-1-1")
    assert page.body["edits"][0]["content"]["learning_rate"] == 0.001 and page.body["edits"][0]["trained"] is None
    assert page.body["questions"] == [
        {"id": "0", "text": "output of test 1", "gold": [[[8, 7]]], "parts": ["0/v0", "0/v1"]}
    ]
    trial = page.body["edits"][0]["candidates"][0]
    assert [text for text, _ in trial["answers"][0]] == ["87\n78", "87\n78"] and len(trial["verdicts"]) == 1


# runs that are not done


def test_a_deleted_task_shows_as_deleted_and_none_of_its_texts_is_left(tmp_path: Path) -> None:
    record(str(tmp_path / "run"))
    context = Run(str(tmp_path / "run")).round(1).tasks[1].data["context"]
    ledger = Ledger(str(tmp_path / "run"))
    delete_task(ledger, "harbour-1-1")
    ledger.close()
    run = Run(str(tmp_path / "run"))
    report.write(run, tmp_path / "report.html")
    html = (tmp_path / "report.html").read_text()
    told = embedded(html)["overview"]
    assert [len(r["deleted"]) for r in told["rounds"]] == [1]
    assert [t["id"] for t in told["tasks"]] == ["harbour-1-0", "harbour-1-2"]
    assert "harbour-1-1" not in html and json.dumps(context)[1:30] not in html


def test_an_open_round_says_what_was_not_tried_yet(tmp_path: Path) -> None:
    record(str(tmp_path), rounds=2, commit=False)
    ledger = Ledger(str(tmp_path))
    ledger.acquire("test")
    ledger.round(2).append("candidates", Candidate("c" * 32, "harbour-2-0", "edit", None, 0, 5, 5, None))
    ledger.close()
    run = Run(str(tmp_path))
    told = report.overview(run)
    assert [(r["committed"], r["untried"]) for r in told["rounds"]] == [(True, 0), (False, 1)]
    assert told["rounds"][1]["arms"] is None and told["state"] == "Interrupted"
    open_page = next(p for p in report.pages(run) if p.task["id"] == "harbour-2-0")
    assert [c["state"] for c in open_page.body["alone"]].count("waiting") == 1
    assert open_page.body["edits"][0]["reward"] is None


def test_a_candidate_without_a_trial_in_a_committed_round_was_lost(tmp_path: Path) -> None:
    record(str(tmp_path))
    run = Run(str(tmp_path))
    found = run.round(1)
    gone = next(t.candidate for t in found.trials if t.task == "harbour-1-2" and not t.failure and t.losses)
    less = tuple(t for t in found.trials if t.candidate != gone)
    reader = Reader(dataclasses.replace(found, trials=less), run.ledger.round(1), "lexical", {}, Teller(None))
    page = next(p for p in reader.pages() if p.task["id"] == "harbour-1-2")
    states = [c["state"] for e in page.body["edits"] for c in e["candidates"]]
    assert states.count("lost") == 1 and page.task["untried"] == 1


def test_a_run_that_has_not_begun_makes_a_page_too(tmp_path: Path) -> None:
    Ledger(str(tmp_path / "run")).create(Config().model_dump(mode="json"), {}, 1)
    made = report.write(Run(str(tmp_path / "run")), tmp_path / "report.html")
    told = embedded(made.html.decode())["overview"]
    assert made.tasks == 0 and told["rounds"] == [] and told["state"] == "not begun"


def test_a_file_that_can_not_be_written_is_named(uri: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"file/report.html can't be written"):
        report.write(Run(uri), tmp_path / "file" / "report.html")


# keeping it small


def page(number: int, text: str) -> Page:
    return Page({"id": str(number), "round": 1}, [{"id": f"e{number}"}], {"edits": [{"text": text}]})


def test_long_texts_are_cut_and_say_so() -> None:
    text = embedded(compose({}, [page(0, "x" * 50_000)]).html.decode())["page-0"]["edits"][0]["text"]
    assert text.startswith("x" * LIMITS[0] + "… (cut here: 20,000 of 50,000 characters")


def test_texts_get_shorter_before_a_page_is_left_out() -> None:
    made = compose({}, [page(n, "x" * 5000) for n in range(4)], most=12_000)
    assert (made.tasks, made.left_out, made.longest) == (4, 0, 2000)


def test_the_first_pages_are_kept_where_not_all_fit() -> None:
    made = compose({}, [page(n, "x" * 5000) for n in range(40)], most=4_000)
    told = embedded(made.html.decode())
    assert made.tasks + made.left_out == 40 and 3 <= made.tasks <= 5
    assert [t["id"] for t in told["overview"]["tasks"]] == [str(n) for n in range(made.tasks)]
    assert [e["page"] for e in told["overview"]["edits"]] == list(range(made.tasks))
    assert told["overview"]["left_out"] == made.left_out and len(made.html) < 120_000


def test_a_loss_that_was_nobodys_fault_is_counted_from_the_events(tmp_path: Path) -> None:
    record(str(tmp_path))
    ledger = Ledger(str(tmp_path))
    ledger.acquire("test")
    lost = {"arm": "edit", "failure": "killed_worker", "message": "it died", "blame": "infra"}
    ledger.events(make(TrialFailed, 1, 1.0, **lost))
    ledger.close()
    told = report.overview(Run(str(tmp_path)))["failures"]
    assert {
        "round": 1,
        "what": "trial of an edit",
        "kind": "killed_worker",
        "blame": "infra",
        "count": 1,
        "like": "it died",
    } in told


def test_every_phase_has_its_place_in_the_table_of_times() -> None:
    (listed,) = re.findall(r"const PHASES = \[(.*?)\]", (PAGE / "costs.js").read_text(encoding="utf-8"))
    style = (PAGE / "report.css").read_text(encoding="utf-8")
    assert set(re.findall(r'"(\w+)"', listed)) == set(get_args(Phase))
    assert all(f".span.{phase}" in style for phase in get_args(Phase))


def test_what_fits_is_counted_in_bytes() -> None:
    plain, wide = (compose({}, [page(n, c * 5000) for n in range(40)], most=30_000) for c in ("x", "水"))
    assert wide.tasks < plain.tasks and len(wide.html) < len(plain.html) + 30_000
