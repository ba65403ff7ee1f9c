"""How a run ended that ended for good: nothing is gained by starting it again as it is.

Places that restart whatever failed would pay for the same end again and again. So the end is left in the ledger, and
whoever comes back with the same configuration is told the same thing at once.
"""

from dataclasses import dataclass
from typing import Any

from seal_ray.config import Config
from seal_ray.errors import BudgetSpent, ConfigError, DataError, SealError
from seal_ray.records import Json, decode, digest, encode

FOR_GOOD: dict[str, type[SealError]] = {cls.__name__: cls for cls in (ConfigError, DataError, BudgetSpent)}


@dataclass(frozen=True)
class Ending:
    """Why a run ended, and with which configuration."""

    error: str  # its class
    message: str
    hint: str
    config: str  # digest

    def again(self) -> SealError:
        """The same end, for whoever comes back."""
        hint = f"{self.hint}, then the same command; " if self.hint else ""
        return FOR_GOOD[self.error](
            f"the run ended for good: {self.message}", hint=f"{hint}`--set run.resume=again` tries once more as it is"
        )


def ending(error: BaseException | None, config: Config) -> Ending | None:
    """None for what may end otherwise the next time."""
    if not isinstance(error, SealError) or type(error) not in FOR_GOOD.values():
        return None
    return Ending(type(error).__name__, error.message, error.hint, fingerprint(config))


def fingerprint(config: Config) -> str:
    """Of everything that may change how a run ends."""
    settings: dict[str, Any] = config.model_dump(mode="json")
    del settings["observe"], settings["run"]["resume"]
    return digest(encode(settings))


def refuse_ended(note: dict[str, Json], config: Config) -> None:
    """Raise what the last driver ended with, where nothing has changed since."""
    known = note.get("ending")
    if not known or config.run.resume == "again":
        return
    last = decode(Ending, known)
    if last.error in FOR_GOOD and last.config == fingerprint(config):
        raise last.again()
