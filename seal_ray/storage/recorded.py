"""How a run that is there is reached: as its record says, and as it was called now."""

from seal_ray.config import StorageSection
from seal_ray.config_file import validated
from seal_ray.errors import ConfigError
from seal_ray.redaction import redacted
from seal_ray.storage.ledger import Ledger


def recorded_settings(uri: str, given: StorageSection) -> StorageSection:
    """The storage section that the run was made with, under what is given now.

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
    return validated(StorageSection, redacted(known | given.model_dump(exclude_unset=True)), {}, f"the record of {uri}")
