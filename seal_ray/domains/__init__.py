"""Domains, and how one is found by its name."""

from collections.abc import Callable
from importlib import metadata
from typing import Any

from seal_ray.config import AnsweringSection, Config
from seal_ray.domains.base import Domain
from seal_ray.errors import ConfigError
from seal_ray.records import Recipe
from seal_ray.storage.input_files import read_document

GROUP = "seal_ray.domains"


def load_domain(
    section: Any,
    *,
    recipe: Recipe,
    answering: AnsweringSection,
    chat: bool,
    seed: int,
    read: Callable[[str], bytes],
) -> Domain:
    """The domain that a configuration names, from this package or from any that is installed."""
    found = metadata.entry_points(group=GROUP)
    matching = [e for e in found if e.name == section.name]
    if not matching:
        names = ", ".join(sorted({e.name for e in found})) or "none"
        raise ConfigError(
            f"domain.name: {section.name!r} is not installed; there are: {names}",
            hint=f"install the package that has it under the entry point group {GROUP}",
        )
    return matching[0].load()(section, recipe=recipe, answering=answering, chat=chat, seed=seed, read=read)


def configured(config: Config, chat: bool = False) -> Domain:
    """A configuration's domain, with its data read from wherever that is. `chat`: the model has a chat template."""
    return load_domain(
        config.domain,
        recipe=config.inner.recipe(),
        answering=config.answering,
        chat=chat,
        seed=config.run.seed,
        read=lambda uri: read_document(uri, config.storage),
    )
