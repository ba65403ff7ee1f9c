"""Whether there is a run to go on with, whether it is the one that the configuration means, and with which model."""

from seal_ray import config_file
from seal_ray.config import MAY_CHANGE, Config, ModelSection
from seal_ray.errors import ConfigError
from seal_ray.records import Json
from seal_ray.redaction import redacted
from seal_ray.storage.ledger import Ledger


def as_begun(ledger: Ledger, config: Config) -> Config:
    """The configuration with what the run began with where it leaves out a key that had another default then."""
    return config_file.as_begun(config, redacted(ledger.run()["config"])) if ledger.exists() else config


def is_there(ledger: Ledger, config: Config) -> bool:
    """Whether the ledger holds a run to go on with; refuses one that was configured otherwise."""
    uri, wish = config.run.uri, config.run.resume
    if not ledger.exists():
        if wish == "must":
            raise ConfigError(f"run.resume: must, but there is no run at {uri}", hint="check run.uri")
        return False
    if wish == "never":
        raise ConfigError(f"run.resume: never, but there is a run at {uri}", hint="choose another run.uri")
    # as this version reads it: a field that came later has the default, which is what was done before it
    was = config_file.resolved(redacted(ledger.run()["config"]))
    # what looks like a secret of this process is hidden on both sides
    differ = differences(was.model_dump(mode="json"), redacted(config.model_dump(mode="json")))
    if differ:
        raise ConfigError(
            f"the run at {uri} was configured otherwise: " + "; ".join(differ),
            hint="put these back, or choose another run.uri",
        )
    return True


def refuse_other_command(note: dict[str, Json], command: str, uri: str) -> None:
    """Rounds mean something else to each command. Who does not say which it is, or did not then, is let through."""
    began = note.get("command")
    if began and command and began != command:
        raise ConfigError(
            f"the run at {uri} was begun by seal-ray {began}, and this is seal-ray {command}",
            hint="choose another run.uri",
        )


def pinned_note(asked: ModelSection, pinned: ModelSection) -> Json:
    """For the next driver: the commit that a hub's branch stood for when the run began."""
    return {"name": asked.name, "revision": asked.revision, "commit": pinned.revision}


def pinned_again(model: ModelSection, note: dict[str, Json]) -> ModelSection:
    """The model as the last driver pinned it, unless it is asked for by another revision now."""
    last = note.get("model") or {}
    if (last.get("name"), last.get("revision")) != (model.name, model.revision):
        return model
    return model.model_copy(update={"revision": str(last["commit"])})


def differences(was: dict[str, Json], now: dict[str, Json], prefix: str = "") -> list[str]:
    """The keys in which two configurations differ, but for those that may."""
    out = []
    for key in sorted(was.keys() | now.keys()):
        name = f"{prefix}{key}"
        if any(name == free or name.startswith(free + ".") for free in MAY_CHANGE):
            continue
        old, new = was.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            out += differences(old, new, name + ".")
        elif old != new:
            out.append(f"{name} was {old!r} and is {new!r}")
    return out
