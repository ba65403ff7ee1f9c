"""How a run that is there is reached: as its record says, and as it was called now."""

import shlex
from typing import Any

from seal_ray.config import StorageSection
from seal_ray.config_file import validated
from seal_ray.errors import ConfigError
from seal_ray.redaction import redacted
from seal_ray.storage.ledger import Ledger


def recorded_settings(uri: str, given: StorageSection) -> StorageSection:
    """The storage section that the run was made with, under what is given now and is not a default.

    With it a command writes as the run does: with its encryption, its key, its region. Credentials are in no record.
    """
    ledger = Ledger(uri, given, read_only=True)
    try:
        if not ledger.exists():
            raise ConfigError(f"there is no run at {uri}", hint="check the URI; `seal-ray run CONFIG` begins one")
        config = ledger.run().get("config")
        record = config.get("storage") if isinstance(config, dict) else None
    finally:
        ledger.close()
    kept = record if isinstance(record, dict) else {}
    known = {key: value for key, value in kept.items() if key in StorageSection.model_fields}
    return validated(StorageSection, redacted(known | changes(given)), {}, f"the record of {uri}")


def changes(settings: StorageSection) -> dict[str, Any]:
    """What is not as it is by default."""
    plain = StorageSection()
    return {
        key: value for key in StorageSection.model_fields if (value := getattr(settings, key)) != getattr(plain, key)
    }


def flags(settings: StorageSection) -> str:
    """What a command needs to reach a run that was made with these settings, in front of which stands a space."""
    out = [f"--endpoint {shlex.quote(settings.endpoint)}"] if settings.endpoint else []
    out += [f"--storage {shlex.quote(f'{k}={v}')}" for k in ("region", "profile") if (v := getattr(settings, k))]
    return "".join(f" {flag}" for flag in out)
