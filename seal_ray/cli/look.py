"""Looking at runs that are there."""

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from seal_ray.cli.arguments import AsJson, EndpointUrl, StorageKeys, Uri
from seal_ray.cli.opening import given_storage, open_run
from seal_ray.cli.output import show
from seal_ray.errors import ConfigError

CLEAR = "\x1b[2J\x1b[H"  # a terminal's screen


def status(
    uri: Uri,
    watch: Annotated[bool, typer.Option("--watch", help="look again and again, until nobody drives the run")] = False,
    every: Annotated[float, typer.Option("--every", help="with --watch: seconds between two looks", min=0.1)] = 5.0,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """How a run is doing, also while it is on: rounds, phase, counts, failures."""
    from seal_ray.commands import terminal
    from seal_ray.loops.history import as_written

    with as_written(uri, "its parts"):
        run = open_run(uri, endpoint, storage)
    while True:
        with as_written(uri, "its parts"):
            state = terminal.status(run)
            shown = terminal.show_status(state, run.storage)
        if watch and not as_json and _on_terminal():
            sys.stdout.write(CLEAR)
        show(state, shown, as_json, one_line=watch)
        if not watch or not state["holder"]:
            return
        time.sleep(every)


def _on_terminal() -> bool:
    return sys.stdout.isatty()


def inspect(
    uri: Uri,
    task: Annotated[str, typer.Option("--task", help="a task's id")] = "",
    candidate: Annotated[str, typer.Option("--candidate", help="a candidate's id, or how it begins")] = "",
    round_: Annotated[
        int, typer.Option("--round", help="look in this round only; 0: in every round, the latest first", min=0)
    ] = 0,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """One task or one candidate: the edit, its losses, answers, verdicts, reward, and whether it was chosen."""
    from seal_ray.commands import terminal
    from seal_ray.loops.history import as_written
    from seal_ray.storage.flags import as_typed

    if bool(task) == bool(candidate):
        at = as_typed(uri, given_storage(endpoint, storage))
        raise ConfigError(
            "inspect wants one of --task and --candidate", hint=f"`seal-ray status {at} --json` lists tasks"
        )
    run = open_run(uri, endpoint, storage)
    with as_written(uri, "its parts"):
        inspected = terminal.inspect(run, task=task, candidate=candidate, number=round_)
        shown = terminal.show_inspection(inspected)
    show(inspected, shown, as_json)


def report(
    uri: Uri,
    to: Annotated[Path, typer.Option("--to", help="file to write")] = Path("report.html"),
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Write one HTML file to read the run in: figures by round, and every task with its edits, answers and rewards."""
    from seal_ray.commands import report

    made = report.write(open_run(uri, endpoint, storage), to)
    show(
        {"written": str(to), "bytes": len(made.html), "tasks": made.tasks, "left_out": made.left_out},
        f"wrote {to} ({len(made.html) / 1e6:.1f} MB, {made.tasks} tasks); open it in a browser, it needs no network",
        as_json,
    )


def compare(
    uris: Annotated[list[str], typer.Argument(help="where the runs are kept", metavar="URI URI...")],
    to: Annotated[str, typer.Option("--to", help="also write a page (HTML) with the learning curves drawn")] = "",
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Runs side by side: settings that differ, and every arm's figures round by round."""
    from seal_ray.commands import compare as side_by_side
    from seal_ray.commands import compare_page

    compared = side_by_side.compare([open_run(uri, endpoint, storage) for uri in uris])
    if to:
        compare_page.write(compared, Path(to))
    show(compared, side_by_side.show(compared), as_json)


def lineage(uri: Uri, endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False) -> None:
    """Every version: parents, edits, losses, gate."""
    from seal_ray.loops.history import as_written
    from seal_ray.policy.versions import flat, tree

    roots = open_run(uri, endpoint, storage).lineage()
    with as_written(uri, "its updates and gates"):
        listed, shown = flat(roots), tree(roots)
    show(listed, shown, as_json)
