"""The map of what is known, and adapt's page, in a real browser: they open, are quiet, and can be clicked into."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, chromium
from knowing_crew import LIKE_THESE, KnowingCrew, folder, world

from seal_ray.commands import adapt as command
from seal_ray.commands import probe as probing
from seal_ray.commands import report
from seal_ray.loops import rounds
from seal_ray.loops.adapt import begun_with, run_adapt
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session

pytestmark = pytest.mark.skipif(not CHROMIUM.exists(), reason=f"there is no Chromium at {CHROMIUM}")
READY = "document.documentElement.dataset.ready"
SMALL = ("sampling.edits=1", "grading.reward=likelihood")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report and the page of a run in which eight of twelve facts were new."""
    top = tmp_path_factory.mktemp("known")
    facts = world(12)
    crew = KnowingCrew(dict(list(facts.items())[:4]))
    docs = folder(top, facts)
    (docs / "evil.md").write_text("# <img src=x onerror=document.title=1>\n\nZed Marsh was born in <b>Tarnby</b>.\n")
    config = probing.configured(str(docs), [f"run.uri={top / 'run'}", *LIKE_THESE, *SMALL])
    with pytest.MonkeyPatch.context() as patch, Session(config, hire=lambda *_: crew) as session:  # type: ignore[arg-type,return-value]
        patch.setattr(rounds, "update", crew.update)
        done = run_adapt(session, begun_with(session, ""))
    command.write(done, config, top / "mine")
    report.write(Run(config.run.uri), top / "report.html")
    return top


@pytest.fixture(autouse=True)
def quiet(browser: Browser) -> Iterator[None]:
    browser.problems.clear()
    browser.requested.clear()
    yield
    assert not browser.problems
    assert {r.split("#")[0].rpartition("/")[2] for r in browser.requested} <= {"report.html", "learned.html", "blank"}


def test_the_map_can_be_clicked_into(browser: Browser, pages: Path) -> None:
    browser.open(f"{(pages / 'report.html').as_uri()}#view=knowledge")
    browser.wait_for(READY)
    heads = "[...document.querySelectorAll('details.knowledge > summary > strong')].map((d) => d.innerText)"
    names = browser.run(heads)
    assert set(names[:2]) == {"004.md", "008.md"} and names[2:4] == ["000.md", "evil.md"], "the least known first"
    tables = "document.querySelectorAll('details.knowledge table').length"
    assert browser.run(tables) == 0, "nothing is made before it is opened"
    browser.run("document.querySelectorAll('.inside details.knowledge > summary')[0].click()")
    browser.wait_for("document.querySelectorAll('.inside .inside details.knowledge').length >= 4")
    browser.run("document.querySelectorAll('.inside .inside details.knowledge > summary')[0].click()")
    browser.wait_for("document.querySelectorAll('.inside .inside .inside table').length == 1")
    shown = browser.run("document.querySelector('.inside .inside .inside table').innerText")
    assert "right answer" in shown and "disagreement" in shown
    for width in (390, 1280):
        browser.look(width, 800, dark=False)
        assert browser.run("document.documentElement.scrollWidth") <= width


def test_the_page_of_what_was_learned_reads_without_script(browser: Browser, pages: Path) -> None:
    browser.open((pages / "mine" / "learned.html").as_uri())
    text = browser.run("document.body.innerText")
    assert "What mine knows" in text and "12 questions about 3 of 4 passages" in text
    outcomes = browser.run("[...document.querySelectorAll('summary.big')].map((s) => s.innerText.split(' ')[0])")
    assert outcomes == ["learned:", "not", "lost:", "known"]
    assert browser.run("document.title") == "mine" and browser.run("document.images.length") == 0
    assert browser.run("document.querySelectorAll('script').length") == 0
    browser.run("document.querySelectorAll('details')[0].querySelector('summary').click()")
    assert browser.run("document.querySelectorAll('details')[0].open") is True
