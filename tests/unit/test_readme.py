"""Every command on the project's pages: the cheap ones are run as they stand, the others are parsed by what they call.

Whole runs, jobs on a cluster and `make` itself are what the end-to-end tests run with the same words.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from recorded_run import record
from typer.testing import CliRunner

from seal_ray.cli import app
from seal_ray.loops.history import Run

ROOT = Path(__file__).parents[2]
PAGES = [
    "README.md",
    *(str(p.relative_to(ROOT)) for room in ("jobs", "cluster") for p in sorted((ROOT / room).glob("*.md"))),
]
# what is started by itself says at its top how
SCRIPTS = [str(p.relative_to(ROOT)) for room in ("jobs", "cluster") for p in sorted((ROOT / room).rglob("*.*"))
           if p.suffix in {".yaml", ".sh"}]  # fmt: skip
PROGRAMS = ("seal-ray", "ray", "make", "sbatch", "kubectl", "python", "docker", "export", "RAY_AUTH_MODE=token")
# what a page's commands need that only a cluster, GPUs or hours have; everything else of seal-ray is run here
ELSEWHERE = {
    "study",
    "stream",
    "probe",
    "adapt",
    "ask",
    "serve",
    "run",
    "submit",
    "doctor",
    "export",
    "evaluate",
    "approve",
    "reject",
    "rollback",
}


def page(name: str) -> str:
    return (ROOT / name).read_text()


def blocks(name: str, language: str = "") -> list[str]:
    """The fenced blocks in a language; with none, those that are commands."""
    found = re.findall(rf"^```{language}\n(.*?)^```", page(name), re.MULTILINE | re.DOTALL)
    return found if language else [b for b in found if b.split()[0] in PROGRAMS]


def commands(name: str) -> list[str]:
    """Every command that stands in a block of its own, without its comment."""
    lines = [line for block in blocks(name) for line in block.replace("\\\n", " ").splitlines()]
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


def spans(name: str) -> list[str]:
    """Every command that stands inside a sentence."""
    text = re.sub(r"^```.*?^```", "", page(name), flags=re.MULTILINE | re.DOTALL)
    found = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]  # it may go on in the next line
    return [f for f in found if f.split(" ")[0] in PROGRAMS and " " in f]


def comments(name: str) -> list[str]:
    """Every command in the comments of a file: on a line of its own, or inside a sentence."""
    lines = "\n".join(line[1:] for line in page(name).splitlines() if line.startswith("#"))
    own = re.findall(rf"^ +((?:{'|'.join(PROGRAMS)}) .*?)(?:  .*)?$", lines, re.MULTILINE)
    found = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", lines)]
    return [c for c in (*own, *found) if c.split(" ")[0] in PROGRAMS and " " in c]


EVERY = [(p, c) for p in PAGES for c in [*commands(p), *spans(p)]] + [(s, c) for s in SCRIPTS for c in comments(s)]


def parse(command: Any, words: list[str], *, whole: bool) -> None:
    """Fails where a command, an option or (in a whole command) an argument is not there. Typer brings a click of its
    own, so neither types nor exceptions are those of the package."""
    while hasattr(command, "commands"):
        if words and any(words[0] in p.opts for p in command.params):  # of the whole program: --debug and its like
            words = words[1:]
            if not words:
                return
            continue
        assert words and words[0] in command.commands, f"there is no command {' '.join(words[:1])}"
        command, words = command.commands[words[0]], words[1:]
    try:
        command.make_context(command.name, list(words))
    except Exception as error:
        if whole or type(error).__name__ != "MissingParameter":
            raise AssertionError(f"{command.name} {words}: {error}") from None


def check(text: str, *, whole: bool) -> None:
    """Hand a command to whoever would read it."""
    assert subprocess.run(["bash", "-n", "-c", text], capture_output=True, check=False).returncode == 0, text
    words = ["1" if w == "N" else w for w in shlex.split(text) if not re.fullmatch(r"RAY_\w+=\S+", w)]
    program, words = (words[0], words[1:]) if words else ("export", [])
    if program == "seal-ray":
        parse(typer.main.get_command(app), words, whole=whole)
    elif program == "ray":
        before, _, after = text.partition(" -- ")
        from ray.scripts.scripts import cli

        own = [w for w in shlex.split(before) if not w.startswith("RAY_")][1:]
        parse(cli, [*own, *(["--", after] if after else [])], whole=whole)
        if after:
            check(after, whole=whole)
    elif program == "make":
        done = subprocess.run(["make", "-n", *words], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
    elif program not in {"export", "kubectl"}:
        assert any((ROOT / w).is_file() for w in words), text
    for word in words:
        if re.fullmatch(r"(jobs|cluster|docker)/\S+\.\w+", word):
            assert (ROOT / word).is_file(), word


@pytest.mark.parametrize(("where", "text"), EVERY, ids=[f"{p}: {c[:60]}" for p, c in EVERY])
def test_a_command_can_be_given_as_it_stands(where: str, text: str) -> None:
    check(text, whole=where in PAGES and text in commands(where))


def test_commands_are_found_at_all() -> None:
    assert {"make quickstart", "seal-ray validate my.yaml"} <= set(commands("README.md"))
    assert "python cluster/check.py < ready.yaml" in commands("cluster/README.md")
    assert "seal-ray verify URI" in spans("jobs/README.md")
    assert "seal-ray status URI --watch" in spans("README.md"), "it goes on in the next line"
    assert "seal-ray run jobs/arc-1b.yaml" in comments("jobs/arc-1b.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "seal-ray vaildate my.yaml",
        "seal-ray plan my.yaml --jsn",
        "seal-ray inspect",
        "make quikstart",
        "ray job submit --workin-dir . -- seal-ray run jobs/tiny.yaml",
        "ray job submit --working-dir . -- seal-ray runn jobs/tiny.yaml",
        "seal-ray run jobs/no-such.yaml",
        "sbatch cluster/slurn.sh",
        "seal-ray plan 'my.yaml",
    ],
)
def test_a_command_that_is_wrong_would_be_found(text: str) -> None:
    with pytest.raises(AssertionError):
        check(text, whole=True)


@pytest.mark.parametrize("name", PAGES)
def test_every_link_to_a_file_leads_somewhere(name: str) -> None:
    links = [t for t in re.findall(r"\]\(([^)#]+)\)", page(name)) if "://" not in t]
    for target in links:
        assert ((ROOT / name).parent / target).exists(), target


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder like a checkout, with a small run where the page has one."""
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copytree(ROOT / "jobs", folder / "jobs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for name in ("default", "quickstart"):
            record(f"runs/{name}", rounds=1, tasks=2, edits=2)
        yield folder


def give(text: str) -> Any:
    """Run a command in this process; what it printed."""
    done = CliRunner().invoke(app, shlex.split(text)[1:])
    assert done.exit_code == 0, f"{text}: {done.output}{done.exception!r}"
    return done.stdout


def test_the_cheap_commands_of_the_page_run_as_they_stand(place: Path) -> None:
    task = Run("runs/default").round(1).tasks[0].id
    ran = []
    for text in commands("README.md"):
        name = text.split()[1]
        if text.startswith("seal-ray") and name not in ELSEWHERE:
            assert give(text.replace(" ID", f" {shlex.quote(task)}")), text
            ran.append(name)
    assert ran == ["init", "validate", "plan", "status", "inspect", "report", "compare"]
    assert (place / "my.yaml").exists() and (place / "report.html").exists()


def test_the_commands_in_sentences_run_on_a_small_run(place: Path) -> None:
    task = Run("runs/default").round(1).tasks[1].id
    ran = set()
    for text in spans("jobs/README.md"):
        words = text.split()
        if words[0] != "seal-ray" or words[1] in ELSEWHERE | {"init", "validate", "plan"}:
            continue
        if words[1] == "delete":
            text = text.replace(" ID", f" {shlex.quote(task)}")
        give(text.replace(" URI", " runs/default").replace(" FILE", " one.html"))
        ran.add(words[1])
    assert ran == {"report", "regrade", "verify", "gc", "delete"}
    assert "URI" not in [p.name for p in place.iterdir()]


def test_every_command_answers_help_and_those_that_show_take_json(place: Path) -> None:
    for name, command in typer.main.get_command(app).commands.items():  # pyright: ignore[reportAttributeAccessIssue]
        assert give(f"seal-ray {name} --help")
        assert any("--json" in p.opts for p in command.params), name
    for text in ("plan builtin:quickstart", "status runs/default", "lineage runs/default"):
        json.loads(give(f"seal-ray {text} --json"))


def test_the_page_says_how_a_run_is_read_from_python(place: Path) -> None:
    (block,) = [b for b in blocks("README.md", "python") if "seal_ray.open" in b]
    lines = block.splitlines()
    (whole,) = [line for line in lines if "seal_ray.run(" in line]  # a whole run, which the end-to-end tests do
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(line for line in lines if line != whole)],
        cwd=place,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
