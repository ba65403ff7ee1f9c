"""What a person decides of a run that is there."""

from typing import TYPE_CHECKING, Annotated

import typer

from seal_ray.cli.arguments import AsJson, EndpointUrl, Set, StorageKeys, Uri
from seal_ray.cli.opening import open_run, run_storage
from seal_ray.cli.output import show

if TYPE_CHECKING:
    from seal_ray.config import StorageSection

Why = Annotated[str, typer.Option("--why", help="the reason, kept in the run")]


def approve(
    uri: Uri, why: Why = "", endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False
) -> None:
    """Accept the version that a held gate waits with; the next `run` goes on with it."""
    _decide(uri, run_storage(uri, endpoint, storage), True, why, as_json)


def reject(
    uri: Uri, why: Why = "", endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False
) -> None:
    """Reject the version that a held gate waits with; the next `run` goes on with the one before."""
    _decide(uri, run_storage(uri, endpoint, storage), False, why, as_json)


def _decide(uri: str, storage: "StorageSection", accept: bool, why: str, as_json: bool) -> None:
    from seal_ray.commands import decisions

    said = decisions.decide(uri, storage, accept=accept, why=why)
    show(said, f"round {said['round']}: {said['decision']}; the command that began the run goes on with it", as_json)


def rollback(
    uri: Uri,
    to: Annotated[
        int, typer.Option("--to", help="the round whose version becomes current; 0: what round 1 began with", min=0)
    ],
    why: Why = "",
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Make an earlier version current. Nothing is deleted."""
    from seal_ray.commands import decisions

    said = decisions.rollback(uri, run_storage(uri, endpoint, storage), to=to, why=why)
    show(
        said, f"version {said['version']['number']} is current; the command that began the run goes on with it", as_json
    )


def regrade(
    uri: Uri, set_: Set = None, endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False
) -> None:
    """Grade a run's answers again, with the same or another grader; needs no GPU."""
    from seal_ray.commands import regrade as regrading
    from seal_ray.loops.history import as_written

    with as_written(uri, "its rounds"):
        done = regrading.regrade(open_run(uri, endpoint, storage), set_ or ())
    show(done, regrading.show(done), as_json)
