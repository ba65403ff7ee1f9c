"""A run as its ledger tells it: rounds, edits, rewards and tables as plain data. Needs no Ray and changes nothing."""

import contextlib
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

from seal_ray import config_file
from seal_ray.config import Config, StorageSection
from seal_ray.errors import ConfigError, LedgerError
from seal_ray.events import Event, RunStarted
from seal_ray.loops import parents
from seal_ray.policy import versions
from seal_ray.records import Candidate, Choice, Edit, Json, Task, Trial, Verdict, Version, decode
from seal_ray.redaction import redact, redacted
from seal_ray.storage.ledger import Ledger, RoundLedger
from seal_ray.storage.objects import StoredObject

BEFORE = "held_out_before.json"  # the learning curve's point of the version that the first round begins with
AFTER = "held_out.json"  # and of the version that a round ends with
KEPT_IN = "kept_in"  # in a manifest: the run that has its version's files, where that is another one


@contextlib.contextmanager
def as_written(uri: str, what: str) -> Iterator[None]:
    """Around reading parts by their form: one that is whole by its digest may have been written by another hand."""
    try:
        yield
    except (LookupError, TypeError, AttributeError, ValueError, ArithmeticError, RecursionError) as error:
        raise LedgerError(
            f"{uri}: {what} hold something that no seal_ray has written ({type(error).__name__}: {str(error)[:100]})",
            hint="`seal-ray verify` lists what is damaged; --debug shows where it was met",
        ) from error


Reads = TypeVar("Reads", bound=Callable[..., Any])


def _as_written(read: Reads) -> Reads:
    """The same for a method of `Run`."""

    @functools.wraps(read)
    def reading(run: "Run", *args: Any) -> Any:
        with as_written(run.uri, "its rounds"):
            return read(run, *args)

    return cast(Reads, reading)


@dataclass(frozen=True)
class Round:
    """One round, as far as it is."""

    number: int
    tasks: tuple[Task, ...]
    version: Version | None  # the one that wrote the edits
    edits: tuple[Edit, ...]
    candidates: tuple[Candidate, ...]
    trials: tuple[Trial, ...]
    verdicts: tuple[Verdict, ...]
    rewards: dict[str, Json] | None  # with reliability and the means by arm
    choices: tuple[Choice, ...]
    update: dict[str, Json] | None
    gate: dict[str, Json] | None
    manifest: dict[str, Json] | None  # None: not committed

    @property
    def committed(self) -> bool:
        return self.manifest is not None

    @property
    def kept(self) -> tuple[Choice, ...]:
        """The edits that are learned from, without those that the policy is taught away from."""
        return tuple(c for c in self.choices if c.weight > 0)


class Run:
    """The rounds under one URI. It may be asked time and again: only what has come since is read."""

    def __init__(self, uri: str, storage: StorageSection | None = None) -> None:
        self.uri = uri
        self.storage = storage or StorageSection()
        self.ledger = Ledger(uri, self.storage, read_only=True)
        if not self.ledger.exists():
            raise ConfigError(f"there is no run at {uri}", hint="`seal-ray run CONFIG` begins one")
        self.record = redacted(self.ledger.run())
        self._committed: dict[int, Round] = {}  # nothing comes to these any more
        self._events: dict[StoredObject, list[Event]] = {}  # by segment

    @property
    def config(self) -> Config:
        return config_file.resolved(self.record["config"])

    @property
    def latest(self) -> int:
        """The highest committed round; 0 if there is none."""
        return self.ledger.latest()

    @_as_written
    def rollback(self) -> dict[str, Json] | None:
        """Who went back to a version since the last committed round, and why; None if nobody did."""
        return parents.went_back(self.ledger.round(self.latest + 1))

    @_as_written
    def current(self) -> Version | None:
        """What was accepted last or gone back to; None before there is any. A round may begin with another one."""
        latest = self.latest
        source = self.rollback() or (self.ledger.manifest(latest) if latest else self.ledger.round(1).get("tasks.json"))
        return decode(Version, source["version"]) if source else None

    @_as_written
    def keeper(self, version: Version) -> "Run":
        """The run that has the version's files: another one where it was borrowed and is current all the same."""
        for number in self.ledger.rounds():
            manifest = self.ledger.manifest(number) or {}
            if KEPT_IN in manifest and manifest["version"]["digest"] == version.digest:
                lender = str(manifest[KEPT_IN])
                if not Ledger(lender, self.storage, read_only=True).exists():
                    raise ConfigError(
                        f"version {version.number} of {self.uri} is kept in {redact(lender)}, and no run is there",
                        hint="bring that run back to where it was",
                    )
                return Run(lender, self.storage)
        return self

    @_as_written
    def rounds_wanted(self, events: Sequence[Event]) -> int | None:
        """How many rounds it is to have by its last start; None where its rounds are not those of `seal-ray run`."""
        if self.ledger.note().get("command", "run") != "run":  # an older driver's note names none
            return None
        recorded = (self.record["config"].get("run") or {}).get("rounds")
        return next((e.rounds for e in reversed(events) if isinstance(e, RunStarted)), recorded)

    def rounds(self) -> list[Round]:
        return [self.round(n) for n in self.ledger.rounds()]

    def begun(self) -> list[Round]:
        """The same without one of which there is nothing yet but who names its parent."""
        return [
            r
            for r in self.rounds()
            if r.committed or r.tasks or r.edits or not parents.said(self.ledger.round(r.number))
        ]

    @_as_written
    def round(self, number: int) -> Round:
        if number in self._committed:
            return self._committed[number]
        read = read_round(self.ledger.round(number), self.ledger.manifest(number), number)
        if read.committed:
            self._committed[number] = read
        return read

    @_as_written
    def held(self) -> int | None:
        """The round whose gate waits for a person's word, if one does."""
        number = self.latest + 1
        part = self.ledger.round(number)
        gate = part.get("gate.json")
        return number if gate and gate["decision"] == "hold" and not part.get("decision.json") else None

    def events(self) -> list[Event]:
        return list(self.ledger.read_events(self._events))

    @_as_written
    def table(self) -> list[dict[str, Json]]:
        """One row per round: accuracy and likelihood of base, context alone, mean edit and kept edit."""
        rows = []
        for n in self.ledger.rounds():
            part = self.ledger.round(n)
            rewards, selection = part.get("rewards.json"), part.get("selection.json") or {}
            if rewards:
                arms = rewards["arms"] | {"kept": selection.get("kept")}
                decision = (self.ledger.manifest(n) or {}).get("decision")
                rows.append({"round": n, "arms": arms, "reliability": rewards["reliability"], "decision": decision})
        return rows

    @_as_written
    def curve(self) -> list[dict[str, Json]]:
        """How versions did on held-out tasks, by the number of rounds that they have learned from."""
        return [point for n in self.ledger.rounds() for point in curve(self.ledger.round(n))]

    @_as_written
    def lineage(self) -> list[dict[str, Json]]:
        """Every version with what it came from, as a forest."""
        updates, gates = {}, {}
        for n in self.ledger.rounds():
            part = self.ledger.round(n)
            update = part.get("update.json") or {}
            if update.get("version"):
                gate = part.get("gate.json")
                if gate and (manifest := self.ledger.manifest(n)):
                    gate = gate | {"decision": manifest["decision"]}  # a person's, where the gate waited for one
                updates[update["version"]["digest"]] = update
                gates[update["version"]["digest"]] = gate
        return versions.lineage(self.versions(), updates, gates, self.current())

    @_as_written
    def versions(self) -> list[Version]:
        """Every version that was made, the first one without an adapter. Of one number the run's own comes before one
        that it took from another run."""
        by_digest: dict[str, Version] = {}
        own: set[str] = set()
        for n in self.ledger.rounds():
            part = self.ledger.round(n)
            update = part.get("update.json")
            for source in (part.get("tasks.json"), update, self.ledger.manifest(n)):
                if source and source.get("version"):
                    version = decode(Version, source["version"])
                    by_digest.setdefault(version.digest, version)
                    if source is update:
                        own.add(version.digest)
        return sorted(by_digest.values(), key=lambda v: (v.number, v.digest not in own))


def find_version(reference: str, storage: StorageSection) -> tuple[Version, Run]:
    """The version that RUN#N names, and the run that has its files."""
    uri, _, number = reference.rpartition("#")
    if not (uri and number):
        raise ConfigError(f"{reference}: no version of a run", hint="write it as RUN#N")
    run = Run(uri, storage)
    known = [v for v in run.versions() if str(v.number) == number]
    if not known:
        raise ConfigError(f"{uri} has no version {number}", hint="`seal-ray lineage` lists them")
    return known[0], run.keeper(known[0])


def curve(part: RoundLedger) -> list[dict[str, Json]]:
    """What a round has of the learning curve. `after`: the number of rounds that the version has behind it."""
    points = [(part.number - 1, part.get(BEFORE)), (part.number, part.get(AFTER))]
    return [{"after": after, **known} for after, known in points if known]


def read_round(part: RoundLedger, manifest: dict[str, Json] | None, number: int) -> Round:
    tasks = part.get("tasks.json") or {}
    selection = part.get("selection.json") or {}
    return Round(
        number=number,
        tasks=tuple(decode(Task, t) for t in tasks.get("tasks", [])),
        version=decode(Version, tasks["version"]) if tasks else None,
        edits=tuple(part.records("edits").values()),
        candidates=tuple(part.records("candidates").values()),
        trials=tuple(part.records("trials").values()),
        verdicts=tuple(part.records("verdicts").values()),
        rewards=part.get("rewards.json"),
        choices=tuple(decode(Choice, c) for c in selection.get("choices", [])),
        update=part.get("update.json"),
        gate=part.get("gate.json"),
        manifest=manifest,
    )
