"""The samplers as a group: chunks of edits go in, edits come out; a chunk whose sampler dies goes to another one."""

import itertools
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from seal_ray import models
from seal_ray.config import ModelSection, PlacementSection, StorageSection
from seal_ray.errors import ConfigError, InfraError
from seal_ray.events import Sink
from seal_ray.fleet.actor_group import ActorGroup, Share
from seal_ray.fleet.actor_health import Sign
from seal_ray.fleet.actors import Actors
from seal_ray.fleet.members import WaveOutcome
from seal_ray.fleet.placement import Placement
from seal_ray.fleet.worker import answering_class, sign, stacks
from seal_ray.models.shared import Shared, materialise
from seal_ray.records import Edit, Version
from seal_ray.sampling.engine import EngineSettings
from seal_ray.sampling.sampler import EditPrompt, Sampler

NAP = 0.1  # seconds between looks at the clock while nothing comes in
TIMES_DEADLINE = 4  # a chunk may take this many times what a candidate may


class SamplerGroup:
    """Gives chunks to samplers. The same chunk gives the same edits, whoever writes them."""

    def __init__(
        self,
        placement: Placement,
        actors: Actors,
        sink: Sink,
        clock: Callable[[], float] = time.monotonic,
        *,
        share: Share = lambda adapter, _: adapter,
    ) -> None:
        section = placement.section
        self._section: PlacementSection = section
        self._clock = clock
        self._group = ActorGroup(
            "sampler", actors, section, sink, clock, least=1, most=placement.most_samplers, share=share
        )
        self._waiting: deque[str] = deque()
        self._chunks: dict[str, Sequence[EditPrompt]] = {}
        self._losses: dict[str, int] = {}

    def version(self, version: Version, adapter_dir: str | None = None) -> None:
        """Write with this version from the next chunk on."""
        self._group.version(version, adapter_dir)

    def submit(self, chunk_id: str, chunk: Sequence[EditPrompt]) -> None:
        if chunk_id not in self._chunks:
            self._chunks[chunk_id] = chunk
            self._waiting.append(chunk_id)

    def pending(self) -> int:
        """Chunks without edits."""
        return len(self._chunks)

    def poll(self, timeout: float = 0.0) -> list[tuple[str, list[Edit]]]:
        """The chunks that were written; waits for the first of them up to `timeout` seconds."""
        if self._group.current is None:
            raise ConfigError("the samplers were not told which version writes", hint="call version first")
        until = self._clock() + timeout
        chunks: list[tuple[str, list[Edit]]] = []
        while True:
            self._assign()
            left = until - self._clock()
            self._group.advance(max(0.0, min(left, NAP)), needed=len(self._chunks))
            for outcome in self._group.outcomes():
                self._on_outcome(outcome, chunks)
            if chunks or left <= 0:
                self._assign()
                return chunks

    def close(self) -> None:
        """Let all samplers go. Chunks that are still pending are forgotten."""
        self._group.close()
        self._waiting.clear()
        self._chunks.clear()
        self._losses.clear()

    def _assign(self) -> None:
        for member in self._group.idle():
            if not self._waiting:
                return
            chunk_id = self._waiting.popleft()
            limit = TIMES_DEADLINE * self._section.candidate_deadline
            self._group.give(member, chunk_id, limit, "sample", self._chunks[chunk_id])

    def _on_outcome(self, outcome: WaveOutcome, chunks: list[tuple[str, list[Edit]]]) -> None:
        chunk_id: str = outcome.work
        if chunk_id not in self._chunks:
            return  # it was written by another one meanwhile
        if outcome.cause is None:
            del self._chunks[chunk_id]
            self._losses.pop(chunk_id, None)
            if chunk_id in self._waiting:
                self._waiting.remove(chunk_id)
            chunks.append((chunk_id, outcome.value))
            return
        self._losses[chunk_id] = self._losses.get(chunk_id, 0) + 1
        if self._losses[chunk_id] > self._section.candidate_retries:
            raise InfraError(
                f"chunk {chunk_id} ({len(self._chunks[chunk_id])} edits) was lost {self._losses[chunk_id]} times, "
                f"the last time because: {outcome.member}: {outcome.reason}",
                hint="everything found is kept; see this sampler's log, and go on with the same command",
            )
        self._waiting.appendleft(chunk_id)


class SamplerActor:
    """A sampler as the fleet runs it: it gets a version's files by itself, and tells where it is."""

    def __init__(self, model: ModelSection, settings: EngineSettings, storage: StorageSection) -> None:
        self._sampler = Sampler(model, settings, storage)
        self._model = model
        self._storage = storage
        self._started = self._fetching = False
        self._version = ""
        self._chunks = itertools.count(1)
        self._writing: int | None = None  # which chunk, in the order in which they came

    def load_version(self, version: Version, files: Shared | str | None = None) -> str:
        """Write with this version from now on; the first one starts the engine."""
        self._version = ""
        try:
            self._fetching = True
            models.fetch(self._model, self._storage, digest=version.base)
            folder = materialise(files, self._model) if isinstance(files, Shared) else files
        finally:
            self._fetching = False
        if not self._started:
            self._sampler.start(folder if version.kind == "full" else None)
            self._started = True
        self._version = self._sampler.load_version(version, folder)
        return self._version

    def sample(self, chunk: Sequence[EditPrompt]) -> list[Edit]:
        self._writing = next(self._chunks)
        try:
            return self._sampler.sample(chunk)
        finally:
            self._writing = None

    def ping(self) -> Sign:
        return sign(self._version, self._writing, fetching=self._fetching)

    def stacks(self) -> str:
        return stacks()


def sampler_class() -> Any:
    """SamplerActor as a Ray actor class: one thread samples, another answers `ping` and `stacks`."""
    return answering_class(SamplerActor)
