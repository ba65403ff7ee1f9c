"""How a run is named in a command that a person may paste into a shell."""

import shlex

from seal_ray.config import StorageSection


def as_typed(uri: str, settings: StorageSection) -> str:
    """The run's URI, and what a command needs to reach it."""
    return f"{shlex.quote(uri)}{flags(settings)}"


def flags(settings: StorageSection) -> str:
    """What a command needs to reach a run that was made with these settings, in front of which stands a space."""
    out = [f"--endpoint {shlex.quote(settings.endpoint)}"] if settings.endpoint else []
    out += [f"--storage {shlex.quote(f'{k}={v}')}" for k in ("region", "profile") if (v := getattr(settings, k))]
    return "".join(f" {flag}" for flag in out)
