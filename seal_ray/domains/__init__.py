"""Domains, and how one is found by its name."""

import json
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from seal_ray.config import AnsweringSection, Config
from seal_ray.domains.base import Domain
from seal_ray.domains.guarded import GuardedDomain
from seal_ray.errors import ConfigError, DataError, SealError
from seal_ray.records import Description, Json, Recipe, Task
from seal_ray.storage.input_folders import InputReader

GROUP = "seal_ray.domains"
# modules of this package; looking through all that is installed takes its time
OWN = {"knowledge", "documents", "arc", "math", "code"}


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
    try:
        build = _builder(section.name)
        return build(section, recipe=recipe, answering=answering, chat=chat, seed=seed, read=read)
    except SealError:
        raise
    except Exception as error:  # whatever another package's code raises
        if section.name in OWN:
            raise
        raise ConfigError(
            f"domain.name: {section.name} can't be set up: {type(error).__name__}: {str(error)[:300]}",
            hint="that package must be fixed, or domain.options are not what it takes",
        ) from error


def _builder(name: str) -> Callable[..., Domain]:
    if name in OWN:
        return import_module(f"seal_ray.domains.{name}").build
    installed = metadata.entry_points(group=GROUP)
    matching = [e for e in installed if e.name == name]
    if not matching:
        names = ", ".join(sorted({*OWN, *(e.name for e in installed)}))
        raise ConfigError(
            f"domain.name: {name!r} is not installed; there are: {names}",
            hint=f"install the package that has it under the entry point group {GROUP}",
        )
    return matching[0].load()


def configured(config: Config, chat: bool = False) -> GuardedDomain:
    """A configuration's domain, with its data read from wherever that is. `chat`: the model has a chat template."""
    domain = load_domain(
        config.domain,
        recipe=config.inner.recipe(),
        answering=config.answering,
        chat=chat,
        seed=config.run.seed,
        read=InputReader(config.storage),
    )
    return GuardedDomain(domain, config.run.domain_errors)


def training_tasks(config: Config) -> Sequence[Task]:
    """The tasks to train on; fails with a message where the configured data can't be used. Needs no model."""
    tasks = configured(config).tasks("train")
    if not tasks:
        raise DataError(f"domain.data: {Path(getattr(config.domain, 'data', '')).name} has no tasks to train on")
    return tasks


class Teller:
    """What a domain says of tasks in words, and something plain where it does not: reports and judges go on."""

    def __init__(self, domain: Domain | None) -> None:
        self._domain: Any = domain

    @classmethod
    def of(cls, config: Config) -> "Teller":
        """For those who read a run: also where its domain is not installed."""
        try:
            return cls(configured(config))
        except SealError:
            return cls(None)

    def describe(self, task: Task) -> Description:
        try:
            return self._domain.describe(task)
        except Exception:  # a plug-in without it, or with faults of its own; a task whose texts were deleted
            title = task.data.get("title")
            plain = json.dumps(dict(task.data), ensure_ascii=False)
            return Description(title if isinstance(title, str) and title else task.id, plain)

    def texts(self, task: Task, content: Json) -> list[str]:
        """An edit's training texts; none where the domain does not make texts of it."""
        try:
            return list(self._domain.texts(task, content))
        except Exception:
            return []
