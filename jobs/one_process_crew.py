"""Small runs without a cluster: the crew of a run in the loop's own process, for experiments on few cores.

    on a cluster:  session -> Ray -> samplers (vLLM), workers (banks), trainers, in processes of their own
    here:          session -> a bank that writes edits, the same bank's waves, the same training loop, called directly

Starting vLLM and Ray's actors costs more than a tiny world's whole run where cores are busy. What decides (tasks,
seeds, rewards, selection, ledger) and what trains is the product's. What is missing: leases, retries, blame, deadlines;
and edits are drawn by the bank and not by vLLM, from the same distribution but with other luck.
"""

import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stand_in_crew import StandInCrew, WaitingChunks, WaitingPool

from seal_ray import models
from seal_ray.config import Config
from seal_ray.errors import ConfigError
from seal_ray.events import Sink
from seal_ray.inner.answer import Sample, Sampling
from seal_ray.inner.loop import fit
from seal_ray.policy.job import LearnedEdit, StepLog, UpdateJob, UpdateResult
from seal_ray.policy.packing import fitting, hold_back, vocabulary
from seal_ray.records import Edit, Trial, Version, derive_seed
from seal_ray.sampling.sampler import EditPrompt, edit_id
from seal_ray.software import software
from seal_ray.trials.wave import try_wave


def device() -> str:
    """The GPU, if there is one."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


class OneProcessCrew(StandInCrew):
    """Samplers, pool and trainer in turn. The base model stays in memory from run to run."""

    def __init__(self, threads: int = 1) -> None:
        import torch

        torch.set_num_threads(threads)
        self._folder = ""
        self.config: Config | None = None
        self.model: Any = None
        self.tokenizer: Any = None

    def hire(self, config: Config, _described: str, _sink: Sink) -> "OneProcessCrew":
        """For `Session(hire=…)`."""
        if config.sampling.top_p < 1 or _constrained(config.domain) or config.policy.mode == "full":
            raise ConfigError(
                "without a cluster edits are drawn by the bank, which knows no top_p, no schema and no full weights",
                hint="set sampling.top_p: 1, domain.constrained or domain.directives.constrained: false and "
                "policy.mode: lora, or use `seal-ray run`",
            )
        self.config = config
        folder = models.fetch(config.model, config.storage)
        if folder != self._folder:
            self._folder, self.tokenizer = folder, models.tokenizer(folder)
            self.model = models.load(folder, dtype=config.model.dtype, device=device())
        return self

    def samplers(self, version: Version, adapter: str | None) -> "_Samplers":
        self.model = models.change_adapter(self.model, adapter)
        return _Samplers(self, version)

    def pool(self, _version: Version, adapter: str | None) -> "_Pool":
        self.model = models.change_adapter(self.model, adapter)
        return _Pool(self)


def _constrained(domain: Any) -> bool:
    """Whether edits are sampled under a schema."""
    directives = getattr(domain, "directives", None)
    return getattr(domain, "constrained", False) or bool(directives and directives.offered and directives.constrained)


class _Samplers(WaitingChunks):
    def __init__(self, crew: OneProcessCrew, version: Version) -> None:
        super().__init__()
        self._crew, self._version = crew, version

    def write(self, chunk: Sequence[EditPrompt]) -> list[Edit]:
        """A chunk is drawn whole, with its first prompt's seed: the same chunk from the same version is the same."""
        end, first = self._crew.tokenizer.eos_token_id, chunk[0]
        bank = fit(self._crew.model, [[]], [None], [first.seed])
        sampling = Sampling(first.max_tokens, first.temperature, eos_ids=(end,))
        (drawn,) = bank.answer([[p.prompt_ids for p in chunk]], sampling)
        return [self._edit(prompt, samples[0]) for prompt, samples in zip(chunk, drawn, strict=True)]

    def _edit(self, prompt: EditPrompt, sample: Sample) -> Edit:
        digest = self._version.digest
        text = self._crew.tokenizer.decode(list(sample.ids), skip_special_tokens=True)
        return Edit(
            edit_id(digest, prompt), prompt.task, prompt.slot, digest, prompt.seed, prompt.prompt_ids, sample.ids,
            sample.logprobs, text, sample.finish, style=prompt.style,
        )  # fmt: skip


class _Pool(WaitingPool):
    def __init__(self, crew: OneProcessCrew) -> None:
        super().__init__()
        self._crew = crew
        if crew.config:
            self.most = max(self.most, crew.config.inner.wave)

    def poll(self, timeout: float) -> list[Trial]:
        if not self._waiting:
            time.sleep(min(timeout, 0.01))  # graders have their turn
            return []
        wave, self._waiting = self._waiting[: self.most], self._waiting[self.most :]
        config = self._crew.config
        assert config
        return try_wave(
            self._crew.model,
            self._crew.tokenizer,
            wave,
            wave=config.inner.wave,
            tokens_limit=config.inner.wave_tokens,
            worker="here",
        )


# update


def update(job: UpdateJob, *, sink: Sink, tick: Any = lambda: None) -> UpdateResult:
    """In the place of `policy.update.update`: the work of its one worker without Ray, with the same numbers."""
    from seal_ray.policy.lessons import Lesson
    from seal_ray.policy.single_engine import SingleEngine
    from seal_ray.policy.training import Training, as_event
    from seal_ray.policy.update_worker import _moved

    began, section = time.monotonic(), job.section
    size, longest = vocabulary(job.base)
    fit, left_out = fitting(job.lessons, {"policy.max_length": section.max_length, "the model": longest}, {}, size)
    learned, held = hold_back(fit, section.validation, job.seed)
    engine = SingleEngine(
        models.fetch(job.model, job.storage), job.adapter, section, derive_seed(job.seed, "adapter"), device()
    )
    training = Training(engine, section, tuple(learned), tuple(held), job.seed)
    log: list[StepLog] = []

    def tell(step: StepLog) -> None:
        log.append(step)
        sink(as_event(step, len(training.batches)))

    before = training.scan(learned, tick)
    training.reference = before.logprobs
    training.run(tell, tick, lambda epoch, loss: None, lambda step: None)
    after = training.scan(learned, tick)
    part = Path(f"{job.output}.part")
    save(engine, part)
    os.rename(part, job.output)
    return UpdateResult(
        folder=job.output,
        kind="adapter",
        rank=engine.adapter_rank,
        steps=len(log),
        losses=tuple(s.loss for s in log),
        log=tuple(log),
        seconds=time.monotonic() - began,
        kl=_moved(before, after),
        drift=training.drift([Lesson("", "", text) for text in job.probe] or learned, tick),
        entropy=after.entropy,
        entropy_before=before.entropy,
        likelihood=after.likelihood(),
        likelihood_before=before.likelihood(),
        validation_losses=(),
        left_out=tuple(left_out),
        held_back=tuple(lesson.edit for lesson in held),
        edits=tuple(LearnedEdit(lesson.edit, lesson.task, lesson.weight) for lesson in learned),
        recipe=section.model_dump(mode="json") | {"algorithm": job.lessons[0].algorithm, "seed": job.seed},
        environment=software() | {"workers": "the loop's own process", "engine": "torch"},
    )


def save(engine: Any, folder: Path) -> None:
    """A new version's files, in a new folder."""
    folder.mkdir(parents=True)

    def send(name: str, path: str) -> None:
        shutil.copyfile(path, folder / name)

    engine.save(send)
