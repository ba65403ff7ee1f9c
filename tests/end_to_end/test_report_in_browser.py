"""The report in a real browser: it opens, it is quiet, it searches and sorts, it is light or dark and fits a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import test_votes as votes
from browser import CHROMIUM, Browser, chromium
from command import seal_ray
from recorded_run import HOSTILE, record

from seal_ray.commands import report
from seal_ray.loops.history import Run
from seal_ray.observe.report import compose

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}")

READY = "document.documentElement.dataset.ready"
VIEWS = ("overview", "tasks", "edits", "task&round=1&task=harbour-1-0", "task&round=2&task=harbour-2-1")
ROWS = "[...document.querySelectorAll('.list tbody tr')].map((row) => row.innerText)"
FIRST = "[...document.querySelectorAll('.list tbody td:first-child')].map((cell) => cell.innerText)"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as found:
        yield found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A small run's report, made as a person would."""
    folder = tmp_path_factory.mktemp("report")
    record(str(folder / "run"), rounds=2)
    said = seal_ray("report", str(folder / "run"), "--to", str(folder / "report.html"))
    assert "report.html" in said.stdout
    return (folder / "report.html").as_uri()


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    """Whatever is done with a page: no error in its console, and nothing asked for but the file itself."""
    browser.problems.clear()
    browser.requested.clear()
    yield
    assert not browser.problems
    assert {r.split("#")[0].rpartition("/")[2] for r in browser.requested} <= {"report.html", "blank"}


def at(browser: Browser, page: str, view: str) -> None:
    browser.open(f"{page}#view={view}")
    browser.wait_for(READY)


@pytest.mark.parametrize("view", VIEWS)
def test_every_view_fits_a_phone_and_a_desk_in_light_and_dark(browser: Browser, page: str, view: str) -> None:
    at(browser, page, view)
    for width in (390, 1280):
        seen = set()
        for dark in (False, True):
            browser.look(width, 800, dark=dark)
            assert browser.run("document.documentElement.scrollWidth") <= width, f"{width} wide: it scrolls sideways"
            seen.add(browser.run("getComputedStyle(document.body).backgroundColor"))
        assert len(seen) == 2, "light and dark look the same"
    assert browser.run("document.querySelectorAll('main h1').length") == 1


def test_a_person_may_choose_light_or_dark(browser: Browser, page: str) -> None:
    at(browser, page, "overview")
    browser.look(1280, 800, dark=True)
    colour = "getComputedStyle(document.body).backgroundColor"
    preferred = browser.run(colour)
    browser.run("document.querySelector('.theme').click()")
    assert browser.run("document.querySelector('.theme').innerText") == "light"
    assert browser.run(colour) != preferred
    browser.run("document.querySelector('.theme').click()")
    browser.run("document.querySelector('.theme').click()")
    assert browser.run(colour) == preferred


def test_the_overview_draws_its_figures(browser: Browser, page: str) -> None:
    browser.look(1280, 800)
    at(browser, page, "overview")
    headings = browser.run("[...document.querySelectorAll('h2')].map((h) => h.innerText)")
    wanted = [
        "Closed book, by round",
        "Rewards",
        "By kind of question",
        "How far the rewards can be trusted",
        "Policy updates",
        "Gate",
        "Versions",
        "Time",
    ]
    assert [h for h in headings if h in wanted] == wanted and {"Occupancy", "Cost"} <= set(headings)
    browser.wait_for("document.querySelectorAll('svg[role=img]').length >= 9")
    assert browser.run("document.querySelectorAll('svg .mark.kept').length") >= 4
    drawn = "[...document.querySelectorAll('svg[role=img]')].map((s) => s.getAttribute('aria-label'))"
    assert {"accuracy by base likelihood", "accuracy by title"} <= set(browser.run(drawn))
    assert "version 2" in browser.run("document.querySelector('pre.tree').innerText")
    assert "nan_loss" in browser.run("document.querySelector('main').innerText")
    assert "2.75 → 2.25" in browser.run("document.querySelector('main').innerText")
    assert browser.run("document.querySelector('main').innerText.includes('NaN')") is False


def test_a_search_leaves_what_has_all_its_words(browser: Browser, page: str) -> None:
    browser.look(1280, 800)
    at(browser, page, "edits")
    assert len(browser.run(ROWS)) == 18
    word = "document.querySelector('input[type=search]')"
    browser.run(f"{word}.value = 'SCRIPT broken', {word}.dispatchEvent(new Event('input'))")
    browser.wait_for(f"{ROWS}.length === 1")
    assert "Harbour 1.0, edit 0" in browser.run(ROWS)[0]
    assert "q=SCRIPT+broken" in browser.run("location.hash"), "the search is in the address"
    at(browser, page, "edits&q=script+lantern+broken")
    assert len(browser.run(ROWS)) == 1, "and an address with a search finds the same"
    browser.open(f"{page}#q=script+broken&sort=reward")
    assert len(browser.run(ROWS)) == 1, "also without the view's name"
    at(browser, page, "edits&show=failed")
    assert len(browser.run(ROWS)) == 2
    at(browser, page, "tasks&q=nobody&round=2")
    assert len(browser.run(ROWS)) == 3


def test_a_title_sorts_one_way_and_then_the_other(browser: Browser, page: str) -> None:
    browser.look(1280, 800)
    at(browser, page, "edits")

    def rewards() -> list[str]:
        return [line.split()[0].replace("−", "-") for line in browser.run(FIRST)]

    down = rewards()
    assert down[-1] == "–" and down[:-1] == sorted(down[:-1], key=float, reverse=True)
    browser.run("document.querySelector('th button').click()")
    up = rewards()
    assert up[-1] == "–" and up[:-1] == sorted(down[:-1], key=float)
    assert browser.run("document.querySelector('th').getAttribute('aria-sort')") == "ascending"
    at(browser, page, "edits&sort=reward&dir=up")
    assert rewards() == up


def test_a_task_is_read_from_its_edits_to_its_answers(browser: Browser, page: str) -> None:
    browser.look(1280, 900)
    at(browser, page, "tasks")
    browser.run("[...document.querySelectorAll('.list a')].find((a) => a.innerText === 'Harbour 1.0').click()")
    browser.wait_for("document.querySelector('.side-by-side') !== null")
    cards = browser.run("[...document.querySelectorAll('.edit-card')].map((card) => card.innerText)")
    assert len(cards) == 3
    assert "failed: nan_loss" in cards[0] and "failed: no_text" in cards[2] and "no reward" in cards[2]
    assert sum("kept" in card.split("\n")[0:4] for card in cards) == 1
    assert browser.run("document.querySelectorAll('.question').length") == 4
    before = browser.run("document.querySelector('.question .answers tr').innerText")
    assert before.startswith("before") and "✗" in before
    assert "no verdict: judge" in browser.run("document.querySelector('.question').innerText")
    browser.run("document.querySelector('.edit-card:nth-child(2) details').open = true")
    assert browser.wait_for("document.querySelectorAll('.edit-card:nth-child(2) .texts li').length") == 3
    browser.wait_for("document.querySelectorAll('.edit-card .path').length === 3")


def test_what_a_model_wrote_is_text_on_the_page(browser: Browser, page: str) -> None:
    at(browser, page, "task&round=1&task=harbour-1-0")
    assert browser.run("document.querySelector('.edit-card .written').textContent").startswith(HOSTILE)
    assert browser.run("document.title").endswith("seal_ray report")
    assert browser.run("document.querySelectorAll('img').length") == 0


def test_puzzles_are_drawn(browser: Browser, tmp_path: Path) -> None:
    record(str(tmp_path / "run"), puzzles=True)
    seal_ray("report", str(tmp_path / "run"), "--to", str(tmp_path / "report.html"))
    at(browser, (tmp_path / "report.html").as_uri(), "task&round=1&task=puzzle-1-1")
    assert browser.run("document.querySelectorAll('.pair .grid-of-colours').length") == 6
    assert browser.run("document.querySelectorAll('.reply .grid-of-colours').length") >= 4
    assert "learning rate" in browser.run("document.querySelector('.edit-card').innerText")


def test_votes_are_drawn_by_round(browser: Browser, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = votes.go(votes.configured(tmp_path), votes.VotingCrew(votes.learning), monkeypatch)
    report.write(run, tmp_path / "report.html")
    at(browser, (tmp_path / "report.html").as_uri(), "overview")
    told = "[...document.querySelectorAll('section')].find((s) => s.querySelector('h2').innerText === 'Votes')"
    assert "agreement has risen by more than 25" in browser.run(f"{told}.innerText")
    rows = browser.run(f"[...{told}.querySelectorAll('tbody tr')].map((r) => r.innerText.split(/\\s+/)[0])")
    assert rows == ["1", "2", "3"] and browser.run(f"{told}.querySelectorAll('svg[role=img]').length") == 1


def test_runs_that_are_open_or_have_not_begun_make_sense(browser: Browser, tmp_path: Path) -> None:
    record(str(tmp_path / "run"), rounds=2, commit=False)
    seal_ray("report", str(tmp_path / "run"), "--to", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").as_uri()
    at(browser, page, "overview")
    assert "round 2 is open" in browser.run("document.querySelector('main').innerText")
    for view in ("tasks", "edits", "task&round=2&task=harbour-2-2", "task&round=9&task=unknown"):
        at(browser, page, view)
        assert browser.run("document.querySelectorAll('main h1').length") == 1
    for way in ("up", "down"):
        at(browser, page, f"edits&sort=reward&dir={way}")
        blank = [line == "–" for line in browser.run(FIRST)]
        assert blank == [False] * 8 + [True] * 4, "what has no reward comes last, whichever way"


def test_a_report_of_two_thousand_candidates_opens_and_is_small(browser: Browser, tmp_path: Path) -> None:
    record(str(tmp_path / "run"), rounds=2, tasks=40, edits=12, repeats=2, sentences=12, losses=240)
    seal_ray("report", str(tmp_path / "run"), "--to", str(tmp_path / "report.html"))
    file = tmp_path / "report.html"
    assert file.stat().st_size < 20_000_000
    browser.look(1280, 900)
    for view in ("overview", "edits", "tasks"):
        at(browser, file.as_uri(), view)
        assert browser.run("performance.getEntriesByType('navigation')[0].loadEventEnd") > 0
    assert browser.run("document.querySelectorAll('.list tbody tr').length") == 80
    at(browser, file.as_uri(), "edits")
    shown = "document.querySelectorAll('.list tbody tr').length"
    assert browser.run(shown) == 100, "the rest of the 960 edits waits until somebody scrolls"
    browser.run("window.scrollTo(0, document.body.scrollHeight)")
    browser.wait_for(f"{shown} > 100")


@pytest.mark.slow
def test_the_report_of_a_real_run_can_be_read(browser: Browser, tmp_path: Path) -> None:
    uri = str(tmp_path / "run")
    seal_ray("run", "jobs/tiny.yaml", "--set", f"run.uri={uri}")
    seal_ray("report", uri, "--to", str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").as_uri()
    browser.look(1280, 900)
    at(browser, page, "overview")
    told = browser.run("document.querySelector('main').innerText")
    assert "2 of 2" in told and "worker-1" in browser.run("document.querySelector('main').textContent")
    assert not {"NaN", "undefined", "[object"} & set(told.replace("\n", " ").split(" "))
    at(browser, page, "tasks")
    for link in browser.run("[...document.querySelectorAll('.list a')].map((a) => a.getAttribute('href'))"):
        at(browser, page, link.removeprefix("#view="))
        assert browser.run("document.querySelectorAll('.edit-card').length") == 2
        assert browser.run("document.querySelectorAll('.verdict').length") >= 4


def test_a_loss_below_zero_is_drawn_in_its_picture(browser: Browser, tmp_path: Path) -> None:
    record(str(tmp_path / "run"))
    run = Run(str(tmp_path / "run"))
    told: Any = report.overview(run)
    told["rounds"][0]["update"]["losses"] = [0.5, -2.0]  # as of edits that are taught away from
    (tmp_path / "report.html").write_bytes(compose(told, report.pages(run)).html)
    browser.look(1280, 800)
    at(browser, (tmp_path / "report.html").as_uri(), "overview")
    drawn = "document.querySelector('svg[aria-label=\"loss of the update\"]')"
    points = browser.wait_for(f"{drawn}?.querySelector('polyline')?.getAttribute('points')")
    height = float(browser.run(f"{drawn}.getAttribute('height')"))
    assert all(0 <= float(point.split(",")[1]) <= height for point in points.split())
