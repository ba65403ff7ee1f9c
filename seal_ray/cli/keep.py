"""The record of a run: whether it is whole, what can go, what must go."""

from typing import Annotated

import typer

from seal_ray.cli.arguments import AsJson, EndpointUrl, StorageKeys, Uri
from seal_ray.cli.opening import given_storage, writable
from seal_ray.cli.output import show


def verify(uri: Uri, endpoint: EndpointUrl = "", storage: StorageKeys = None, as_json: AsJson = False) -> None:
    """Check every digest of a run, and that nothing is missing."""
    from seal_ray.commands import record_keeping
    from seal_ray.storage.verification import verify as check

    problems = check(record_keeping.open_as_it_is(uri, given_storage(endpoint, storage)))
    said = record_keeping.problems_as_data(problems)
    show(said, record_keeping.show_problems(uri, problems), as_json)
    if not said["whole"]:
        raise typer.Exit(3)


def gc(
    uri: Uri,
    delete_: Annotated[bool, typer.Option("--delete", help="delete it; without this it is only listed")] = False,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """List what no reader of a run looks at any more, or delete it."""
    from seal_ray.commands import record_keeping
    from seal_ray.storage.garbage import gc as clear

    with writable(uri, endpoint, storage) as ledger:
        waste = clear(ledger, dry_run=not delete_)
    show(record_keeping.waste_as_data(waste, delete_), record_keeping.show_waste(waste, delete_), as_json)


def delete(
    uri: Uri,
    task: Annotated[str, typer.Option("--task", help="id of the task whose texts go")],
    purge: Annotated[
        bool, typer.Option("--purge", help="also delete the earlier states that a versioned bucket keeps")
    ] = False,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Take a task's texts out of a run, everywhere, and leave a tombstone."""
    from seal_ray.commands import record_keeping
    from seal_ray.storage.deletion import delete_task

    with writable(uri, endpoint, storage) as ledger:
        done = delete_task(ledger, task, purge=purge)
    show(record_keeping.deletion_as_data(done), record_keeping.show_deletion(task, done), as_json)
