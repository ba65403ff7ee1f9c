"""From documents to an adapter that knows them: probe, try edits, learn what helped, ask again, decide.

Three rounds of one ledger, each gone on with where it stopped:
 1. questions about the documents, and what the version that is begun with knows of them;
 2. edits of the passages that are not known, each tried on the questions that are not held out;
 3. one version that learns the texts that helped and the answers to those questions, the same questions asked of it,
    and the gate's word.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from seal_ray.config import Config
from seal_ray.domains.base import Rejected
from seal_ray.errors import ArgumentError, ConfigError, DataError
from seal_ray.events import RoundStarted, Warned
from seal_ray.loops import foreseeing, parents, rounds
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.history import Run
from seal_ray.loops.probe import COMMANDS, QuestionSet, every_task, look, make_tests
from seal_ray.loops.probing.slices import Slice, slices
from seal_ray.loops.probing.support import supported_texts
from seal_ray.loops.probing.uncertainty import UncertaintyMap
from seal_ray.loops.probing.weak import uses_weak, with_weak
from seal_ray.loops.rewarding import settle
from seal_ray.loops.session import Session, once
from seal_ray.loops.studying.texts import warn_of_objective
from seal_ray.policy import versions
from seal_ray.policy.gate import GateDecision, decide
from seal_ray.policy.lessons import Lesson, lesson_text
from seal_ray.records import Choice, Edit, Example, Json, Task, Version, decode, derive_seed, encode
from seal_ray.storage.flags import as_typed

PROBE, TRY, LEARN = 1, 2, 3  # rounds
POLICY = "policy.json"  # in the first of them: the version that the run began with
PASSAGE = "the passage itself"
SENTENCE = "a sentence of the passage"
ANSWER = "the answer to a question"


@dataclass(frozen=True)
class Adapted:
    """What came of it. `version` None: nothing had to be learned, or nothing could be."""

    tests: QuestionSet
    before: UncertaintyMap
    after: UncertaintyMap | None
    version: Version | None
    decision: str  # accept, reject, hold, no update, nothing to learn
    reasons: tuple[str, ...]
    slices: tuple[Slice, ...]
    texts: Mapping[str, Json]  # what was learned from: counts, and what was left out


def adapt(
    config: Config,
    *,
    policy: str = "",
    stop: Callable[[], bool] = lambda: False,
    on_stop: Callable[[Callable[[], None]], None] = lambda wind_up: None,
) -> Adapted:
    """All of it. `policy`: RUN#N, a version that writes the edits and is trained on, or RUN, its current one; empty:
    the base model.
    """
    if config.policy.mode == "full":
        raise ConfigError(
            "policy.mode: full, and adapt makes an adapter of the base model",
            hint="use policy.mode: lora; for weights of their own `seal-ray study`, and `seal-ray export --as merged`",
        )
    with Session(config, stop=stop, on_stop=on_stop, check=foreseeing.check, command=COMMANDS) as session:
        return run_adapt(session, begun_with(session, policy))


def begun_with(session: Session, policy: str) -> Version:
    """The version that the configuration names; of a run that is gone on with, it is the one that it began with."""
    begun = _began_with(session)
    if not policy:
        return _the_same(versions.first(session.base), begun, "")
    uri, mark, number = policy.rpartition("#")
    source = Run(uri if mark else policy, session.config.storage)
    if mark:
        known = [v for v in source.versions() if str(v.number) == number]
    else:  # what is current there may be another one by now
        known = [v for v in source.versions() if begun and v.digest == begun.digest] or [source.current()]
    version = next((v for v in known if v), None)
    if version is None:
        hint = f"`seal-ray lineage {as_typed(source.uri, source.storage)}` lists them"
        raise ArgumentError(f"--policy {policy}: no such version", hint=hint)
    if version.base != session.base:
        raise ArgumentError(f"--policy {policy} belongs to another model", hint=f"set model.name as in {source.uri}")
    if version.kind == "full":  # an adapter to it would be exported as one to the base
        raise ArgumentError(
            f"--policy {policy}: version {version.number} has weights of its own, and adapt makes adapters of the base",
            hint="`seal-ray export` it and name that folder as model.name",
        )
    return session.borrow(_the_same(version, begun, policy), source.keeper(version).ledger)


def _began_with(session: Session) -> Version | None:
    known = session.ledger.round(PROBE).get(POLICY) or session.ledger.manifest(PROBE)  # older runs have only the latter
    begun = decode(Version, known["version"]) if known else None
    if begun:
        parents.refuse_other_base(begun, session.base, session.config)
    return begun


def _the_same(version: Version, begun: Version | None, policy: str) -> Version:
    """What is known of one version says nothing of another."""
    if begun and begun.digest != version.digest:
        raise ArgumentError(
            f"--policy{f' {policy}' if policy else ', which is not given'}: that is version {version.number} "
            f"({version.digest[:12]}), and the run began with version {begun.number} ({begun.digest[:12]})",
            hint="give the --policy that it began with, or choose another run.uri",
        )
    return version


def run_adapt(session: Session, version: Version) -> Adapted:
    _warn_of_unread(session)
    tests, before = probe_round(session, version)
    tasks = to_learn(tests, before, _of_training(session))
    if uses_weak(session.config.domain):
        tasks = tuple(with_weak(t, before.questions, tests.about, session.config.probe.known) for t in tasks)
    if not tasks:
        session.outcome = "nothing to learn"
        return Adapted(tests, before, None, None, "nothing to learn", ("everything is known already",), (), {})
    exploration, choices = try_round(session, version, tasks)
    return learn_round(session, version, tests, before, exploration, choices)


def _warn_of_unread(session: Session) -> None:
    """Settings that mean something to a round and nothing here."""
    config = session.config
    for name, is_set, instead in (
        ("gate.regression", bool(config.gate.regression), "the gate asks the questions that were held out"),
        (
            "gate.max_kl",
            "max_kl" in config.gate.model_fields_set and not session.domain.tasks("validation"),
            "drift is measured on passages that domain.validation keeps back, and there are none",
        ),
        ("gate.mode: off", config.gate.mode == "off" and "mode" in config.gate.model_fields_set, "the gate judges"),
    ):
        if is_set:
            session.tell(Warned(f"{name} changes nothing here: {instead}"))
    warn_of_objective(session)


# 1. what is not known


def probe_round(session: Session, version: Version) -> tuple[QuestionSet, UncertaintyMap]:
    part = session.open_round(PROBE)
    if part.manifest() is None:
        part.put(POLICY, {"version": encode(version)})
    tests = make_tests(session, part, every_task(session))
    if not tests.tasks:
        lost = ", ".join(f"{name} {count}" for name, count in dict(tests.funnel["lost"]).items()) or "none was written"
        raise DataError(
            f"no question stood its checks ({lost}), so nobody could tell what is learned",
            hint="take a larger model (model.name), or write some questions yourself (domain.questions), "
            "in either case with another run.uri",
        )
    before = look(session, part, version, tests)
    session.commit(part, version, "probed")
    return tests, before


def _of_training(session: Session) -> frozenset[str]:
    """The passages that may be learned; what `domain.validation` and `domain.test` keep back is asked about only."""
    return frozenset(t.id for t in session.domain.tasks("train"))


def to_learn(tests: QuestionSet, known: UncertaintyMap, these: frozenset[str]) -> tuple[Task, ...]:
    """Those of these that are not known, with the questions that are not held out; the least known first."""
    weights = {p.task: p.weight for p in known.passages}
    weak = [t for t in tests.training() if t.id in these and weights.get(t.id, 1.0) > 0]
    return tuple(sorted(weak, key=lambda t: (-weights.get(t.id, 1.0), t.id)))


def unasked(session: Session, known: UncertaintyMap) -> list[Task]:
    """Passages that no question is about: they are learned as they stand."""
    silent = {p.task for p in known.passages if p.doubt is None and p.weight > 0}
    return [t for t in session.domain.tasks("train") if t.id in silent]


# 2. which edits help


def try_round(session: Session, version: Version, tasks: tuple[Task, ...]) -> tuple[Exploration, list[Choice]]:
    part, config = session.open_round(TRY), session.config
    part.put("tasks.json", {"tasks": [encode(t) for t in tasks], "version": encode(version)})
    session.tell(RoundStarted(len(tasks), version.number, config.sampling.edits))
    exploration = rounds.try_edits(session, part, tasks, version)
    rewarded = settle(session, part, exploration)

    choices = rounds.selected(session, part, rewarded)
    session.commit(part, version, "tried")
    return exploration, [c for c in choices if c.weight > 0]


# 3. one version that knows them


def learn_round(
    session: Session,
    version: Version,
    tests: QuestionSet,
    before: UncertaintyMap,
    exploration: Exploration,
    choices: Sequence[Choice],
) -> Adapted:
    part, config = session.open_round(LEARN), session.config
    tasks = {t.id: t for t in exploration.plan.tasks}
    part.put("tasks.json", {"tasks": [encode(t) for t in tests.final() or tests.tasks], "version": encode(version)})
    session.tell(RoundStarted(len(tasks), version.number, 0))
    edits = {e.id: e for own in exploration.edits.values() for e in own}
    chosen: dict[str, list[Edit]] = {}
    for choice in choices:
        if choice.edit in edits:
            chosen.setdefault(choice.task, []).append(edits[choice.edit])
    lessons, texts = _lessons(session, [*tasks.values(), *unasked(session, before)], chosen)
    once(part, "texts.json", lambda: texts)
    new = rounds.learn(session, part, version, lessons)
    if new is None:
        session.commit(part, version, "no update")
        reason = str((part.get("update.json") or {}).get("reason", "no version was made"))
        return Adapted(tests, before, None, None, "no update", (reason,), (), texts)
    after = look(session, part, new, tests)
    sliced = tuple(slices(before, after, {t.id: t.data["context"] for t in every_task(session)}, config.run.seed))
    # on what was learned the version is meant to move: drift says something only where other texts are kept back
    drift = (part.get("update.json") or {}).get("drift") if session.domain.tasks("validation") else None
    learned = _of_training(session)
    said = once(part, "gate.json", lambda: encode(judged(before.of(learned), after.of(learned), drift, config)))
    decision, reasons = rounds.final_decision(session, part, said), tuple(said["reasons"])
    once(part, "slices.json", lambda: [encode(s) for s in sliced])
    if decision == "hold":
        session.outcome = "held"
    else:
        session.commit(part, new if decision == "accept" else version, decision)
    return Adapted(tests, before, after, new, decision, reasons, sliced, texts)


def _lessons(
    session: Session, tasks: Sequence[Task], chosen: Mapping[str, Sequence[Edit]]
) -> tuple[list[Lesson], dict[str, Json]]:
    """The texts of the chosen edits that their passages support, each passage whole and in sentences, and its answers.

    `tasks` hold no question that is held out.
    """
    section = session.config.probe
    lessons: list[Lesson] = []
    counts = {"passages": 0, "edits": 0, "texts": 0, "unsupported": 0, "sentences": 0, "answers": 0}
    left_out: list[dict[str, Json]] = []
    for task in tasks:
        own = chosen.get(task.id, ())
        try:
            learned = _learned(session, task, own)
            alone = session.domain.sentences(task, session.tokenizer) if section.sentences else []
        except Rejected as rejected:
            session.tell(Warned(f"passage {task.id} is left out: {rejected.failure.message}"))
            continue
        kept, made_up = supported_texts([text for _, _, text in learned], task.data["title"], task.data["context"])
        left_out += [{"task": task.id, "text": text, "made_up": what} for text, what in made_up]
        lessons += [_lesson(example, task.id, name) for example, name, _ in (learned[n] for n in kept)]
        lessons += [_lesson(example, task.id, f"{SENTENCE}/{n}") for n, example in enumerate(alone)]
        answers = session.domain.answers(task, session.tokenizer) if section.teach else []
        lessons += [_lesson(example, task.id, f"{ANSWER}/{n}") for n, example in enumerate(answers)]
        counts["sentences"] += len(alone)
        counts["answers"] += len(answers)
        counts["passages"] += 1
        counts["edits"] += bool(own)
        counts["texts"] += len(kept)
        counts["unsupported"] += len(made_up)
    return lessons, {**counts, "left_out": left_out}


def _learned(session: Session, task: Task, edits: Sequence[Edit]) -> list[tuple[Example, str, str]]:
    """What is learned of the chosen edits, or without one of the passage: examples, each with a name and its text. What
    several edits have in common, as the passage, is there once.
    """
    out: list[tuple[Example, str, str]] = []
    earlier: set[tuple[int, ...]] = set()
    for edit in edits or [None]:
        content = edit.content if edit else None
        examples, _ = session.domain.training(task, content, session.tokenizer)
        both = zip(examples, session.domain.texts(task, content), strict=True)
        own = [(example, f"{edit.id if edit else PASSAGE}/{n}", text) for n, (example, text) in enumerate(both)]
        out += [one for one in own if one[0].ids not in earlier]
        earlier.update(example.ids for example in examples)
    return out


def _lesson(example: Example, task: str, name: str) -> Lesson:
    """What stands before the first token that is learned is its prompt."""
    asked = example.mask.index(True)
    return Lesson(name, task, lesson_text(example.ids[:asked], example.ids[asked:]))


def judged(before: UncertaintyMap, after: UncertaintyMap, drift: float | None, config: Config) -> GateDecision:
    """The gate's rule on the held-out questions: how many of the answers are right, and how probable a right one is.

    Both are shares, and the mean of the two is what `doubt` lacks of 1. The likelihood itself is no measure of what is
    better: one answer that is wrong and sure weighs more in it than many that are right.
    """
    section = config.gate if config.gate.mode != "off" else config.gate.model_copy(update={"mode": "auto"})
    held_out = {q.id for q in before.questions if q.held_out} or {q.id for q in before.questions}
    known = {q.id: q.right for q in before.questions if q.right >= 0.5}
    later = {q.id: q.right for q in after.questions}
    has_likelihood = all(q.likelihood is not None for q in (*before.questions, *after.questions) if q.id in held_out)

    if len(held_out) < 2:
        alone = ("there are too few questions to compare the versions by",)
        return GateDecision("hold" if section.mode == "hold" else "accept", "accept", {}, alone)

    def scores(uncertainty: UncertaintyMap) -> dict[str, float]:
        return {q.id: 1 - q.doubt if has_likelihood else q.right for q in uncertainty.questions if q.id in held_out}

    return decide(
        scores(before),
        scores(after),
        known,
        later,
        drift,
        section,
        derive_seed(config.run.seed, "gate"),
        measure="knowledge" if has_likelihood else "accuracy",
    )


def titles(tests: QuestionSet) -> list[str]:
    return list(dict.fromkeys(t.data["title"] for t in tests.tasks))
