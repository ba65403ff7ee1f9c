"""How commands reach a run that is there: its storage section, under what the command line says."""

import contextlib
import os
from typing import TYPE_CHECKING

from seal_ray.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from seal_ray.config import StorageSection
    from seal_ray.loops.history import Run
    from seal_ray.storage.ledger import Ledger


@contextlib.contextmanager
def writable(uri: str, endpoint: str, keys: list[str] | None) -> "Iterator[Ledger]":
    from seal_ray.storage.ledger import Ledger

    ledger = Ledger(uri, run_storage(uri, endpoint, keys))
    try:
        yield ledger
    finally:
        ledger.close()


def open_run(uri: str, endpoint: str, keys: list[str] | None) -> "Run":
    from seal_ray.loops.history import Run

    return Run(uri, run_storage(uri, endpoint, keys))


def run_storage(uri: str, endpoint: str, keys: list[str] | None) -> "StorageSection":
    """How the run is reached and written to: as it was made, under what the command line says."""
    from seal_ray.storage.recorded import recorded_settings

    return recorded_settings(uri, given_storage(endpoint, keys))


def given_storage(endpoint: str, keys: list[str] | None) -> "StorageSection":
    from seal_ray import config_file
    from seal_ray.config import StorageSection

    for key in keys or ():
        if "=" not in key:
            raise ConfigError(f"--storage {key}: no value", hint="write it as --storage region=eu-west-1")
    given = config_file.parse("", "--storage", [f"storage.{key}" for key in keys or ()]).storage
    said = given.model_dump(exclude_unset=True) | ({"endpoint": endpoint} if endpoint else {})
    return config_file.validated(StorageSection, said, {}, "--endpoint")


def target_storage(target: str, endpoint: str, keys: list[str] | None) -> "StorageSection":
    """How a run is reached; a folder with an adapter is a local one, and so is what `adapt` left in place of one."""
    from seal_ray.commands.served import LEARNED
    from seal_ray.records import ADAPTER_CONFIG

    if any(os.path.isfile(os.path.join(target, name)) for name in (ADAPTER_CONFIG, LEARNED)):
        return given_storage(endpoint, keys)
    return run_storage(target.rpartition("#")[0] or target, endpoint, keys)
