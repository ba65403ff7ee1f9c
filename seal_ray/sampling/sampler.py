"""The sampler: owns a vLLM engine and writes edits with the policy's current version.

A plain class; the fleet runs it as an actor in a process of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from seal_ray import models
from seal_ray.errors import InfraError
from seal_ray.records import Edit, Failure, Json, Version, digest
from seal_ray.redaction import logger
from seal_ray.sampling.engine import Engine, EngineSettings, GeneratedText, GenerateRequest

if TYPE_CHECKING:
    from seal_ray.config import ModelSection, StorageSection

log = logger(__name__)


@dataclass(frozen=True)
class EditPrompt:
    """One edit to be sampled: for which task and slot, from which ids, how, and with which seed."""

    task: str
    slot: int
    prompt_ids: tuple[int, ...]
    seed: int
    temperature: float = 1.0
    top_p: float = 0.95
    max_tokens: int = 1024
    schema: Mapping[str, Json] | None = None
    style: str = ""
    stop: tuple[str, ...] = ()


def edit_id(version: str, prompt: EditPrompt) -> str:
    """What makes two edits the same: who wrote it, for what, with which seed, from which prompt."""
    return digest([version, prompt.task, prompt.slot, prompt.seed, list(prompt.prompt_ids)])[:32]


class Sampler:
    """Samples chunks of edits. The same chunk from the same version gives the same edits."""

    def __init__(
        self, model: "ModelSection", settings: EngineSettings, storage: "StorageSection | None" = None
    ) -> None:
        self._model = model
        self._storage = storage
        self._settings = settings
        self._base = ""  # the folder with the run's own model
        self._engine: Engine | None = None
        self._version: Version | None = None
        self._adapter: str | None = None

    def start(self, weights: str | None = None) -> str:
        """Fetch the model and bring the engine up; returns the model's digest.

        `weights`: the folder of the first version, where it has weights of its own. An engine with those of the model
        would be started only to be closed, which takes minutes on a GPU, and may not give back all of its memory.
        """
        self._base = models.fetch(self._model, self._storage)
        if self._engine is None:
            self._engine = Engine(weights or self._base, self._settings)
        return models.digest_of(self._base)

    def load_version(self, version: Version, adapter_dir: str | None = None) -> str:
        """Write with this version from now on. An adapter costs a request, full weights a new engine."""
        self._running()
        if version.kind != "base" and adapter_dir is None:
            raise InfraError(
                f"version {version.number} has weights of its own, but no folder with them was handed over",
                hint="fetch its files to the node first",
            )
        self._version = None
        full = adapter_dir if version.kind == "full" else None
        engine = self._engine_on(full or self._base)
        adapter = None if full else adapter_dir
        if adapter is not None:
            engine.load(adapter)
        if self._adapter is not None and self._adapter != adapter:
            engine.forget(self._adapter)
        self._adapter, self._version = adapter, version
        return version.digest

    def _engine_on(self, folder: str) -> Engine:
        """The engine with these weights: what went before may have had weights of its own, and not the base's."""
        engine = self._running()
        if engine.model_dir != folder:
            engine.close()
            self._engine = self._adapter = None
            self._engine = engine = Engine(folder, self._settings)
        return engine

    def sample(self, chunk: Sequence[EditPrompt]) -> list[Edit]:
        """An edit for each prompt, in order, without content: reading the text is the domain's work."""
        engine, version = self._running(), self._version
        if version is None:
            raise InfraError("this sampler was not told which version writes", hint="call load_version first")
        fitting = [prompt for prompt in chunk if engine.fits(prompt.prompt_ids)]
        samples = iter(self._samples(engine, fitting))
        return [
            _edit(version, prompt, next(samples) if engine.fits(prompt.prompt_ids) else _too_long(prompt, engine))
            for prompt in chunk
        ]

    def _samples(self, engine: Engine, prompts: Sequence[EditPrompt]) -> list[GeneratedText | Failure]:
        requests = [
            GenerateRequest(p.prompt_ids, p.seed, p.temperature, p.top_p, p.max_tokens, p.schema, p.stop)
            for p in prompts
        ]
        try:
            return list(engine.generate(requests, self._adapter))
        except InfraError:  # the engine itself: another one writes the chunk
            raise
        except Exception as error:  # one bad request takes its batch down: find it, and keep the others
            log.warning("a chunk of %d edits failed (%s); each is tried alone", len(requests), error)
        samples: list[GeneratedText | Failure] = []
        for request in requests:
            try:
                samples += engine.generate([request], self._adapter)
            except InfraError:
                raise
            except Exception as error:
                samples.append(Failure("sampling", f"{type(error).__name__}: {error}"[:500], "infra"))
        self._prove(engine)
        return samples

    def _prove(self, engine: Engine) -> None:
        """Raise where the engine fails at the plainest request: whoever leased it has to know."""
        try:
            engine.generate([GenerateRequest((0, 1), seed=0, max_tokens=1)], self._adapter)
        except Exception as error:
            raise InfraError(f"the engine fails at every request: {error}", hint="start the sampler again") from error

    def _running(self) -> Engine:
        if self._engine is None:
            raise InfraError("this sampler has no engine", hint="call start first")
        return self._engine

    def ping(self) -> str:
        """A sign of life: the digest of the version that writes."""
        return self._version.digest if self._version else ""

    def stop(self) -> None:
        """Give the device back."""
        if self._engine is not None:
            self._engine.close()
            self._engine = None


def _too_long(prompt: EditPrompt, engine: Engine) -> Failure:
    length, limit = len(prompt.prompt_ids), engine.max_length
    return Failure("too_long", f"a prompt of {length} tokens leaves no room within {limit}", "data")


def _checked(sample: GeneratedText) -> GeneratedText | Failure:
    """The text, or why it is none."""
    if sample.finish == "nan":
        return Failure("nan_logprob", "the log-probability of a sampled token is no number")
    if sample.finish in ("error", "abort"):
        return Failure("sampling", f"vLLM ended the text with {sample.finish!r}", "infra")
    return sample


def _edit(version: Version, prompt: EditPrompt, sample: GeneratedText | Failure) -> Edit:
    edit = Edit(
        id=edit_id(version.digest, prompt),
        task=prompt.task,
        slot=prompt.slot,
        version=version.digest,
        seed=prompt.seed,
        prompt_ids=tuple(prompt.prompt_ids),
        ids=(),
        logprobs=(),
        text="",
        finish="",
        style=prompt.style,
    )
    if isinstance(sample, GeneratedText):
        sample = _checked(sample)
    if isinstance(sample, Failure):
        return replace(edit, failure=sample)
    return replace(edit, ids=sample.ids, logprobs=sample.logprobs, text=sample.text, finish=sample.finish)
