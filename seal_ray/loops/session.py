"""What every loop stands on: one run, open, with all that it takes to do something and to remember it.

A loop is a plain function of a session. It takes a part of the ledger, does its work in steps that are each remembered
under a name, and stops wherever `tick` says so; whoever starts it again gets to the same place without doing anything
twice:

    def measure(session: Session) -> dict[str, float]:
        part = session.open_round(1)  # what is told from here on bears this number
        tasks = tuple(session.domain.tasks("validation"))
        version = versions.first(session.base)
        plan = Plan(tasks, version, edits=0, repeats=0, context_arm=False, salt=1)
        exploration = explore(session, part, plan)  # tries on the cluster what the ledger does not have yet
        scores = once(part, "scores.json", lambda: scores_of(exploration))
        session.commit(part, version, "measured")
        return scores

    with Session(config, stop=stop, on_stop=on_stop) as session:
        scores = measure(session)

`with` is what says how the run ended and lets everything go. A session is whole once it exists: where something is
missing (a model, data, a node), the constructor fails with its hint and leaves nothing open. Only the crew waits for
its first use, so that a run in which nothing is left to do needs no cluster.
"""

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from seal_ray import config_checks, grading, observe
from seal_ray.config import Config
from seal_ray.domains import GuardedDomain, configured
from seal_ray.errors import ConfigError, InfraError, Interrupted
from seal_ray.events import (
    Event,
    Phase,
    PhaseEnded,
    PhaseStarted,
    RoundCommitted,
    RunEnded,
    RunStarted,
    Sink,
    WaitingFor,
    Warned,
)
from seal_ray.fleet.crew import Crew
from seal_ray.fleet.head_watch import HeadWatch
from seal_ray.fleet.node_survey import check_nodes
from seal_ray.loops import history, resuming
from seal_ray.loops.driver_model import read_model
from seal_ray.loops.ending import Ending, ending, refuse_ended
from seal_ray.loops.spending import Spending
from seal_ray.policy import versions
from seal_ray.process_end import end_process
from seal_ray.records import Json, Version, encode
from seal_ray.redaction import logger, redacted
from seal_ray.sandbox import Program, ProgramLimits, ProgramResult, run_programs
from seal_ray.sandbox.choice import WantedIsolation
from seal_ray.software import lacking, software
from seal_ray.storage.epochs import Alive
from seal_ray.storage.ledger import Ledger, RoundLedger
from seal_ray.storage.uris import from_anywhere

log = logger(__name__)

Hire = Callable[[Config, str, Sink], Crew]


def once(part: RoundLedger, name: str, compute: Callable[[], Json]) -> Json:
    """What the ledger has under this name; else what is computed now, which is put there before anybody relies on it.

    Everything appended before (edits, trials, verdicts) is safe in the store when the name is.
    """
    known = part.get(name)
    if known is None:
        known = encode(compute())
        part.put(name, known)
    return known


def hire(config: Config, folder: str, tell: Sink) -> Crew:
    """Join the cluster and look at its nodes before a process of ours takes a device."""
    absent = lacking(software())
    if absent:
        raise InfraError(
            f"not installed here: {', '.join(absent)}",
            hint="install seal-ray with its cpu or gpu extra, here and on every node",
        )
    crew = Crew(config, folder, tell)
    try:
        check_nodes(config)
    except BaseException:
        crew.close()  # what was reserved would be held for as long as this process lives
        raise
    return crew


class Session:
    """A run that is on. Held by one process; `tell` may be called from any thread, all else from the loop's."""

    def __init__(
        self,
        config: Config,
        *,
        stop: Callable[[], bool] = lambda: False,
        on_stop: Callable[[Callable[[], None]], None] = lambda wind_up: None,
        listeners: Sequence[Sink] = (),
        hire: Hire = hire,
        check: "Callable[[Session], None]" = lambda session: None,
        command: str = "",
    ) -> None:
        """Open the run at `run.uri`, or begin it. A run that another `command` began is refused.

        `stop` is asked often and ends the run cleanly; `on_stop` is told what must be done where nobody can ask.
        `listeners` hear every event besides the ledger and what `observe` configures. `check` raises where a run that
        is about to begin could not come to its end.
        """
        self.config, self._stop, self._hire = config, stop, hire
        self.outcome = "done"  # what the run's end is called when the loop comes back; it may say otherwise
        self._ending: Ending | None = None
        self._label, self._opened = 0, time.monotonic()
        self._telling = threading.Lock()
        self._crew: Crew | None = None
        self._head: HeadWatch | None = None
        self._lenders: dict[str, Ledger] = {}  # by digest, the runs that versions were borrowed from
        self._listeners: list[Any] = []
        with contextlib.ExitStack() as undo:
            self._open(undo)
            on_stop(self.hand_over)
            config = self.config = resuming.as_begun(self.ledger, config)
            self.resumed = resuming.is_there(self.ledger, config)
            self._odd = [] if self.resumed else config_checks.check(config)
            note = self.ledger.note() if self.resumed else {}
            resuming.refuse_other_command(note, command, config.run.uri)
            self._command = command or note.get("command", "")
            refuse_ended(note, config)
            model = read_model(config, resuming.pinned_again(config.model, note))
            self.folder, self.base, self.model = model.folder, model.digest, model.section
            self.tokenizer, self.chat = model.tokenizer, model.chat
            self.domain = self._ready_domain()
            self.grader = grading.build(config.grading, config.run.uri, config.storage)
            self.rubric = grading.judge_endpoint(config.grading) if config.grading.reward == "rubric" else None
            self.spending = Spending(config.run.budget, self._gpu_hours, self._judge_dollars, note.get("spent"))
            self._listeners = [*observe.build(config.observe, config), *listeners]
            if not self.resumed:
                check(self)
            self._take_over()
            self._announce()
            self._undo = undo.pop_all()

    def _open(self, undo: contextlib.ExitStack) -> None:
        """A folder, threads and the ledger, each of which `undo` lets go."""
        config = self.config
        self.scratch = tempfile.mkdtemp(prefix="seal-ray-")
        undo.callback(shutil.rmtree, self.scratch, ignore_errors=True)
        undo.callback(self._dismiss)
        undo.callback(self._close_listeners)
        asking = config.grading.grader in {"judge", "cascade"}
        at_once = 8 if asking else getattr(config.domain, "parallel", 1)
        self.graders = ThreadPoolExecutor(at_once, thread_name_prefix="grading")
        undo.callback(self.graders.shutdown, wait=False, cancel_futures=True)
        self.ledger = Ledger(config.run.uri, config.storage, sink=self.tell)
        undo.callback(self._close_ledger)

    def _ready_domain(self) -> GuardedDomain:
        """The configured domain, with tasks to train on and somewhere to run programs, where its answers are some."""
        domain = configured(self.config, self.chat)
        if run_on := getattr(domain, "run_on", None):
            run_on(self._run_programs)
        if not domain.tasks("train"):
            raise ConfigError("domain.validation and domain.test leave no tasks to train on", hint="lower one of them")
        return domain

    def _take_over(self) -> None:
        """Begin the run's record, or wait for whoever drives the run to be done with it; from here on it is ours."""
        config = self.config
        if not self.resumed:
            _ = self.crew  # a cluster that lacks what the run needs is found before anything is written
            self.ledger.create(redacted(config.model_dump(mode="json")), software(), config.run.seed)
        self.ledger.await_predecessor(self._tell_who_is_awaited)
        self.epoch = self.ledger.acquire(f"{socket.gethostname()}:{os.getpid()}")
        if self.resumed:  # its last driver may have gone on spending, and come to an end, while it was waited for
            note = self.ledger.note()
            refuse_ended(note, config)
            self.spending.before = note.get("spent") or {}
        self.ledger.leave_note(self._note)

    def _announce(self) -> None:
        run = self.config.run
        rounds = run.rounds if self._command == "run" else 0
        self.tell(RunStarted(run.uri, run.seed, rounds, self.epoch, self.resumed))
        self.domain.warn = lambda message: self.tell(Warned(message))
        for warning in (*map(str, self._odd), *getattr(self.domain, "warnings", ())):
            self.tell(Warned(warning))

    # what a loop asks of it

    @property
    def crew(self) -> Crew:
        """Everything that computes for the run. It joins the cluster when it is first asked for."""
        if self._crew is None:
            # a hub's branch may move on in the middle of a run
            pinned = self.config.model_copy(update={"model": self.model})
            self._crew = self._hire(pinned, self.folder, self.tell)
            if isinstance(self._crew, Crew):  # what stands in for one in tests has no head
                self._head = HeadWatch(self._crew.head, self._leave_lost_head)
        return self._crew

    def _run_programs(
        self, programs: Sequence[Program], limits: ProgramLimits, isolation: WantedIsolation
    ) -> Sequence[ProgramResult]:
        """On the cluster where the run has joined one; else on this machine: only verdicts are left to give."""
        on_cluster = getattr(self._crew, "run_programs", run_programs)
        return on_cluster(programs, limits, isolation)

    def open_round(self, number: int) -> RoundLedger:
        """A round's part of the ledger. What is told from here on without a round of its own bears this number."""
        self._label, self._opened = number, time.monotonic()
        return self.ledger.round(number)

    def commit(self, part: RoundLedger, version: Version, decision: str) -> None:
        """End the round that was opened last; `version` is the one that it leaves."""
        lender = self._lenders.get(version.digest)
        kept = {history.KEPT_IN: from_anywhere(lender.store.root)} if lender and version.path else {}
        manifest = part.commit({"version": encode(version), "decision": decision, **kept})
        taken = round(time.monotonic() - self._opened, 1)
        self.tell(RoundCommitted(manifest, version.number, decision, taken))

    def tick(self) -> None:
        """Called often: stops the run where it must stop."""
        if self._stop():
            raise Interrupted(
                f"interrupted; everything found is kept in {self.config.run.uri}",
                hint="the same command goes on with it",
            )
        self.ledger.check()
        self.domain.check()
        self.spending.check(self.tell)

    def adapter(self, version: Version) -> str | None:
        """The folder with a version's files on this machine, fetched from the ledger if it is not there yet."""
        if version.path is None:
            return None
        folder = os.path.join(self.scratch, version.digest[:16])
        if not os.path.isdir(folder):
            os.makedirs(folder + ".part", exist_ok=True)
            versions.fetch(version, self._lenders.get(version.digest, self.ledger), folder + ".part")
            os.rename(folder + ".part", folder)
        return folder

    def borrow(self, version: Version, lender: Ledger) -> Version:
        """Take a version of another run: its files are there and stay there."""
        self._lenders[version.digest] = lender
        return version

    # what it tells

    def tell(self, event: Event) -> None:
        """To the ledger and to all who listen."""
        own = redacted(vars(event)) | {"round": event.round or self._label, "time": event.time or time.time()}
        event = type(event)(**own)
        self.ledger.events(event)  # outside of the lock: the store tells of its retries while it holds its own
        with self._telling:
            for listener in self._listeners:
                listener(event)

    @contextlib.contextmanager
    def phase(self, name: Phase, total: int = 0) -> Iterator[None]:
        """Say that a phase begins and, unless it fails, how long it took."""
        began = time.monotonic()
        self.tell(PhaseStarted(name, total))
        yield
        self.tell(PhaseEnded(name, round(time.monotonic() - began, 1)))

    # the end

    def __enter__(self) -> "Session":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._undo:
                self._ending = ending(error, self.config)
                if isinstance(error, Exception):
                    self.tell(RunEnded(type(error).__name__, str(error), self.seconds))
                if self._crew:
                    self._crew.release("sampler", "worker")
                if error is None:
                    self.tell(RunEnded(self.outcome, seconds=self.seconds))
        except Exception as further:
            if error is None:
                raise
            log.warning("while the run was let go: %s", further)  # why it ended, and its exit code, are the loop's

    @property
    def seconds(self) -> float:
        """How long this process has been at it."""
        return round(self.spending.hours() * 3600, 1)

    def hand_over(self) -> None:
        """Close the ledger in what time is left, from another thread, where the loop itself is stuck. The process ends
        after it, so the scratch goes as well.
        """
        try:
            self.ledger.close(within=self.config.storage.stop_within / 2)
        finally:
            shutil.rmtree(self.scratch, ignore_errors=True)

    def _close_ledger(self) -> None:
        self.ledger.close(within=None if not self._stop() else self.config.storage.stop_within / 2)

    def _close_listeners(self) -> None:
        for listener in self._listeners:
            close = getattr(listener, "close", None)
            if close:
                close()

    def _leave_lost_head(self, seconds: float) -> None:
        """From a thread of its own, while the loop hangs in Ray, which would soon end the process without a word."""
        error = InfraError(
            f"the head of the Ray cluster has not answered for {seconds:.0f} s; "
            f"everything found is kept in {self.config.run.uri}",
            hint="start it again; the same command goes on",
        )
        self.ledger.events(RunEnded("InfraError", str(error), self.seconds, round=self._label, time=time.time()))
        try:
            self.hand_over()
        finally:
            end_process(str(error), error.exit_code)

    def _dismiss(self) -> None:
        if self._head:
            self._head.close()
        if self._crew:
            self._crew.close()

    def _note(self) -> Json:
        """What whoever drives the run next has to know."""
        ending = encode(self._ending) if self._ending else None
        pinned = resuming.pinned_note(self.config.model, self.model)
        return {"spent": self.spending.total(), "ending": ending, "model": pinned, "command": self._command}

    def _tell_who_is_awaited(self, driver: Alive) -> None:
        what = f"the lease of {driver.owner} (epoch {driver.epoch})"
        self.tell(WaitingFor(what, "it has not said that it is done, and may be dead", driver.until - driver.now))

    # what it costs

    def _gpu_hours(self) -> float:
        return self._crew.gpu_hours() if self._crew else 0.0

    def _judge_dollars(self) -> float:
        rubric = self.rubric.usage.dollars if self.rubric else 0.0
        return getattr(self.grader, "dollars", 0.0) + rubric
