"""The model of gain in a run: fitted on rounds that are committed, of this run and of others, once for each round."""

from collections.abc import Iterator
from dataclasses import replace

from seal_ray.config import GradingSection
from seal_ray.domains import Teller
from seal_ray.errors import ConfigError
from seal_ray.events import Warned
from seal_ray.grading.gain_model import GainModel, TriedEdit, calibrated, fit, predict
from seal_ray.grading.reward import RoundRewards, rewards
from seal_ray.loops.exploration import Exploration
from seal_ray.loops.exploring.gain_features import features_of
from seal_ray.loops.history import Round, Run, read_round
from seal_ray.loops.learnable import UNMEASURED
from seal_ray.loops.session import Session, once
from seal_ray.records import Estimate, Reward, Version, decode
from seal_ray.storage.ledger import RoundLedger


def gain_model(session: Session, part: RoundLedger) -> GainModel | None:
    """The round's model of gain; none where nothing is asked of it, or where too little was tried to fit one."""
    config = session.config
    alone = config.grading.reward == "predicted"  # without a model there would be no rewards at all
    if not config.inner.prune and not alone:
        return None
    known = once(part, "gain_model.json", lambda: _fitted(session, part.number))
    if known["model"]:
        return decode(GainModel, known["model"])
    if alone:
        raise ConfigError(
            f"grading.reward: predicted, but {known['reason']}",
            hint="name finished runs of the same model in grading.gain_runs, in a run of its own",
        )
    session.tell(Warned(f"no edit is dropped before it is trained on: {known['reason']}"))
    return None


def _fitted(session: Session, number: int) -> dict[str, object]:
    samples: list[TriedEdit] = []
    measures: dict[str, str] = {}
    config = session.config
    own = [(config.run.uri, config.grading, _before(session, number))]
    others = [(uri, _run(session, uri).config.grading, _of_run(session, uri)) for uri in config.grading.gain_runs]
    teller = Teller(session.domain)
    for uri, grading, rounds in [*others, *own]:
        for past in rounds:
            measures.setdefault(_of_what(past, grading), uri)
            samples += _samples(past, f"{uri}/{past.number}", teller)
    if len(measures) > 1:
        raise ConfigError(
            "grading.gain_runs: gains of different measures can't be put together: "
            + ", ".join(f"{measure} in {uri}" for measure, uri in measures.items()),
            hint="name runs with one grading.reward, the same as this run's",
        )
    fitted = fit(samples, session.base, next(iter(measures), "").partition(" with ")[0])
    return {"model": None, "reason": fitted} if isinstance(fitted, str) else {"model": fitted}


def _before(session: Session, number: int) -> Iterator[Round]:
    for n in range(1, number):
        past = read_round(session.ledger.round(n), session.ledger.manifest(n), n)
        if _measure(past):
            yield past


def check(session: Session) -> None:
    """Refuse before a run begins the runs that it could learn no model of gain from."""
    config = session.config
    wanted = config.inner.prune or config.grading.reward == "predicted"
    for uri in config.grading.gain_runs if wanted else ():
        for version in _run(session, uri).versions():
            _refuse_other_model(session, uri, version)


def _run(session: Session, uri: str) -> Run:
    try:
        return Run(uri, session.config.storage)
    except ConfigError as error:
        raise ConfigError(f"grading.gain_runs: {error.message}", hint="name runs that are there") from None


def _refuse_other_model(session: Session, uri: str, version: Version) -> None:
    if version.base != session.base:
        raise ConfigError(
            f"grading.gain_runs: {uri} was made with another model ({version.base[:12]}, and this run has "
            f"{session.base[:12]}): what helps one need not help the other",
            hint="name runs of the same base model",
        )


def _of_run(session: Session, uri: str) -> Iterator[Round]:
    for past in _run(session, uri).rounds():
        if past.version:
            _refuse_other_model(session, uri, past.version)
        if past.committed and _measure(past):
            yield past


def _measure(past: Round) -> str:
    """What the round's gains were measured in; empty where nothing was measured."""
    measure = str((past.rewards or {}).get("measure", ""))
    return "" if measure in UNMEASURED else measure


def _of_what(past: Round, grading: GradingSection) -> str:
    """The measure, and of a blend what it is made of."""
    measure = _measure(past)
    if measure != "blend":
        return measure
    return f"blend with {grading.blend_of}" + (f" per {grading.contrast}" if grading.blend_of == "contrast" else "")


def _samples(past: Round, where: str, teller: Teller) -> list[TriedEdit]:
    gains = {r["edit"]: r["raw"]["mean"] for r in (past.rewards or {})["rewards"]}
    samples: list[TriedEdit] = []
    for task in past.tasks:
        edits = [e for e in past.edits if e.task == task.id]
        features = features_of(edits, teller.describe(task))
        samples += [TriedEdit(f"{where}/{task.id}", features[e], gains[e]) for e in features if e in gains]
    return samples


# what came of it


def with_calibration(exploration: Exploration, rewarded: RoundRewards) -> RoundRewards:
    """The round's rewards with how the model's predictions compare with them."""
    model = exploration.plan.model
    if model is None or rewarded.measure != model.measure:
        return rewarded
    predicted, gains = [], []
    for task in exploration.plan.tasks:
        predicted.append(predict(model, exploration.features(task)))
        gains.append({r.edit: r.raw.mean for r in rewarded.rewards if r.task == task.id})
    return replace(rewarded, calibration=calibrated(predicted, gains))


def foreseen(session: Session, exploration: Exploration) -> RoundRewards:
    """Rewards without a trial: what the model predicts of each edit, with the error that it is known to make."""
    model = exploration.plan.model
    assert model, "a plan without trials comes with a rubric or a model of gain"
    edits = [e for _, own in sorted(exploration.edits.items()) for e in own]
    nothing = rewards(edits, [], [], [], section=session.config.grading.model_copy(update={"reward": "accuracy"}))
    slots, made = {e.id: e.slot for e in edits}, list[Reward]()
    for task in sorted(exploration.edits):
        about = next(t for t in exploration.plan.tasks if t.id == task)
        for edit, value in predict(model, exploration.features(about)).items():
            estimate = Estimate(value, model.error, 1)
            made.append(Reward(edit, task, slots[edit], estimate, estimate))
    return replace(nothing, rewards=tuple(made), measure="predicted", notes=())
