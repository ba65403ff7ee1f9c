"""An arm as it is named: where its edits come from, whether they are learned as one, and settings of its own."""

from dataclasses import dataclass

from seal_ray import config_file
from seal_ray.config import Config
from seal_ray.errors import ConfigError

KINDS = {"none", "context", "untrained", "file", "version", "teacher"}
USAGE = (
    "none, context, untrained, file:PATH#KEY (edits that somebody wrote: a list of {task or context, KEY: edit or "
    "edits}), version:RUN#N (edits of a version of another run), teacher:URL#MODEL (edits by a model behind an "
    "OpenAI-compatible endpoint); joined:ARM learns all edits of a task as one; `ARM with KEY=VALUE KEY=VALUE` "
    "tries it with other settings of inner, sampling, answering or domain"
)
WITH, JOINED = " with ", "joined:"
SECTIONS = ("inner.", "sampling.", "answering.", "domain.")
# what the arms of a table share: the tasks and their questions, and what workers and samplers are started with
SHARED = {
    *(f"domain.{key}" for key in ("name", "data", "validation", "test", "distractors", "max_questions", "views")),
    *(f"inner.{key}" for key in ("wave", "wave_tokens")),
    *(f"answering.{key}" for key in ("how", "max_tokens", "engine_from", "engine_memory")),
    *(f"sampling.{key}" for key in ("gpu_memory", "kv_cache_gb")),
}


@dataclass(frozen=True)
class Arm:
    """One row of a comparison."""

    name: str
    kind: str
    where: str = ""
    joined: bool = False
    settings: tuple[str, ...] = ()

    @staticmethod
    def of(name: str, settings_of: tuple[str, ...] = SECTIONS) -> "Arm":
        """Read an arm's name; refuses what is none before anything is tried. `settings_of`: what it may set, by how
        the keys begin."""
        source, given, words = name.rpartition(WITH) if WITH in name else (name, "", "")
        settings = tuple(words.split())
        if given and not settings:
            raise ConfigError(f"--arm {name}: no settings after `with`", hint="write it as `ARM with inner.epochs=5`")
        for setting in settings:
            key, sep, _ = setting.partition("=")
            if not sep or not key.startswith(settings_of):
                keys = ", ".join(settings_of)
                raise ConfigError(
                    f"--arm {name}: {setting} is no setting of an arm", hint=f"set what begins with {keys}"
                )
            if key in SHARED:
                raise ConfigError(
                    f"--arm {name}: {key} is the same for all arms of a table",
                    hint="set it with --set, or compare runs",
                )
        joined = source.startswith(JOINED)
        kind, _, where = source.removeprefix(JOINED).partition(":")
        if kind not in KINDS or (kind in {"none", "context"} and joined):
            raise ConfigError(f"--arm {name}: no such arm", hint=f"use {USAGE}")
        return Arm(name, kind, where, joined, settings)

    def configured(self, config: Config) -> Config:
        """The configuration with the arm's own settings."""
        return config_file.resolved(config.model_dump(mode="json"), self.settings) if self.settings else config
