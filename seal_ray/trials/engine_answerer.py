"""Answers by vLLM: takes a wave's adapters as files and answers with all of them at once, for answers that are long.

Between the bank that trained an adapter and the engine that answers with it lies a file, and with it every way to
answer with the wrong weights and not to notice. So each adapter is held against its bank before it may answer.
"""

import math
import shutil
import tempfile
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from seal_ray.errors import InfraError
from seal_ray.records import derive_seed
from seal_ray.sampling.engine import Engine, EngineSettings, GenerateRequest

if TYPE_CHECKING:  # they load torch, which a driver that only names this class does without
    from seal_ray.inner.answer import Ids, Sample, Sampling
    from seal_ray.inner.bank import Bank

How = Literal["auto", "bank", "engine"]
PROBE = 32  # tokens of a prompt on which bank and engine are compared
# largest mean difference of a token's log-probability: what the arithmetic alone may cause, far below what a round of
# training changes
TOLERANCE = {"float32": 0.005, "bfloat16": 0.1}


def engine_answers(how: How, engine_from: int, longest: int) -> bool:
    """Whether the engine is to give an answer of at most `longest` tokens: as configured, or by this length."""
    return how == "engine" or (how == "auto" and longest >= engine_from)


class EngineAnswerer:
    """An engine beside a bank.

    `policy` is the folder of the policy's adapter, with which a candidate answers that has no adapter of its own.
    `how` and `engine_from` say which questions are the bank's own to answer: each by its own limit, so that nobody's
    answer depends on what else is asked in a lease.
    """

    def __init__(
        self,
        model_dir: str,
        settings: EngineSettings,
        policy: str | None = None,
        *,
        how: How = "engine",
        engine_from: int = 0,
    ) -> None:
        self._model_dir, self._settings, self._policy = model_dir, settings, policy
        self._how: How = how
        self._engine_from = engine_from
        self._engine: Engine | None = None
        self._bank: Bank | None = None
        self._folders: dict[int, str] = {}

    def start(self) -> None:
        """Bring the engine up now: what it takes of a device's memory is then gone before a bank is measured out."""
        self._running()

    def answer(
        self, bank: "Bank", prompts: "Sequence[Sequence[Ids]]", sampling: "Sampling"
    ) -> "list[list[list[Sample]]]":
        """For each adapter, prompt and sample an answer; no prompts for an adapter give an empty list."""
        if not engine_answers(self._how, self._engine_from, sampling.max_tokens):
            return bank.answer(prompts, sampling)
        engine = self._running()
        if self._bank is not bank:
            self._let_go()
            self._bank = bank
        requests: list[GenerateRequest] = []
        adapters: list[str | None] = []
        for number, own in enumerate(prompts):
            adapter = self._adapter(bank, number, own[0]) if own else None
            for at, prompt in enumerate(own):
                for draw in range(sampling.samples):
                    requests.append(
                        GenerateRequest(
                            tuple(prompt),
                            seed=derive_seed(sampling.seed, bank.seeds[number], at, draw),
                            temperature=sampling.temperature,
                            top_p=sampling.top_p,
                            max_tokens=sampling.max_tokens,
                            stop=sampling.stop_texts,
                            stop_ids=sampling.eos_ids,
                        )
                    )
                    adapters.append(adapter)
        from seal_ray.inner import Sample

        texts = iter(engine.generate(requests, adapters))

        def answer() -> "Sample":
            text = next(texts)
            return Sample(text.ids, text.logprobs, text.finish)

        return [[[answer() for _ in range(sampling.samples)] for _ in own] for own in prompts]

    def likelihood(self, bank: "Bank", pairs: "Sequence[Sequence[tuple[Ids, Ids]]]") -> list[list[tuple[float, int]]]:
        """The bank's own: a likelihood is one forward pass, for which no adapter needs to leave it."""
        return bank.likelihood(pairs)

    def change_policy(self, policy: str | None) -> None:
        """Answer over another policy's adapter, or none. The engine has the weights of the base, and stays up."""
        self._let_go()
        if self._policy is not None and self._policy != policy and self._engine is not None:
            self._engine.forget(self._policy)
        self._policy = policy

    def close(self) -> None:
        self._let_go()
        if self._engine is not None:
            self._engine.close()
            self._engine = None

    def _running(self) -> Engine:
        if self._engine is None:
            self._engine = Engine(self._model_dir, self._settings)
        return self._engine

    def _adapter(self, bank: "Bank", number: int, prompt: "Ids") -> str | None:
        """The folder that this candidate answers with, exported and held against the bank once."""
        if number not in bank.weights:
            return self._policy
        if number not in self._folders:
            folder = tempfile.mkdtemp(prefix="seal-ray-adapter-")
            try:
                bank.export(number, folder)
                self._compare(bank, number, folder, list(prompt))
            except BaseException:
                self._drop(folder)
                raise
            self._folders[number] = folder
        return self._folders[number]

    def _compare(self, bank: "Bank", number: int, folder: str, prompt: list[int]) -> None:
        """The canary: engine and bank must give the same tokens the same log-probabilities."""
        probe = (prompt if len(prompt) > 1 else prompt * 2)[:PROBE]
        pairs: list[list[tuple[Ids, Ids]]] = [[] for _ in bank.seeds]
        pairs[number] = [(probe[:1], probe[1:])]
        ours, count = bank.likelihood(pairs)[number][0]
        theirs = math.fsum(self._running().score([probe], folder)[0])
        allowed = TOLERANCE[self._running().dtype] * count
        if not abs(ours - theirs) <= allowed:
            raise InfraError(
                f"adapter {number}: vLLM gives a probe of {count} tokens the log-probability {theirs:.4f}, "
                f"the bank that trained it {ours:.4f}; they may differ by {allowed:.4f}",
                hint="set answering.how: bank; the engine does not answer with the weights that were trained",
            )

    def _let_go(self) -> None:
        for folder in self._folders.values():
            self._drop(folder)
        self._folders = {}
        self._bank = None

    def _drop(self, folder: str) -> None:
        if self._engine is not None:
            self._engine.forget(folder)
        shutil.rmtree(folder, ignore_errors=True)
