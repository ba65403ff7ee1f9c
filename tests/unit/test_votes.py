"""Votes in the place of answers: elections, rewards made of them, and a run that ends where they collapse."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from adapters import write_adapter
from made_domain import made_of
from made_update import updated
from stand_in_crew import StandInCrew, WaitingChunks, WaitingPool

from seal_ray import config_checks, models
from seal_ray.commands import regrade, report
from seal_ray.config import Config, MathDomain, ModelSection
from seal_ray.domains.guarded import GuardedDomain
from seal_ray.domains.math import Mathematics, build
from seal_ray.errors import CollapseError, ConfigError
from seal_ray.grading.votes import Election, VoteTally, collapsing, elect, tally
from seal_ray.loops import rounds
from seal_ray.loops.history import Run
from seal_ray.loops.session import Session
from seal_ray.loops.voting import count_votes
from seal_ray.policy.job import UpdateJob, UpdateResult
from seal_ray.records import Answer, Attempt, Candidate, Cost, Edit, Failure, Trial, Version
from seal_ray.sampling.sampler import EditPrompt, edit_id
from seal_ray.storage.verification import verify

ROWS = [{"problem": f"{n} + 1", "answer": f"#### {n + 1}"} for n in range(12)]


# elections


def held(*classes: int | None) -> tuple[Election, int | None]:
    return elect("t", "q", [f"answer {c}" for c in classes], classes)


def test_the_answer_that_most_give_is_elected() -> None:
    election, winner = held(3, None, 4, 3)
    assert winner == 3 and election.answer == "answer 3" and election.failure is None
    assert (election.cast, election.largest, election.agreement) == (4, 2, 0.5)
    assert held(1, 1, 1)[0].entropy == 0 < election.entropy < held(1, 2, 3)[0].entropy == 1


@pytest.mark.parametrize(
    ("classes", "kind"),
    [((1, 1, 2, 2), "tie"), ((1, 2, 3), "tie"), ((1, None, None), "tie"), ((None, None), "unread"), ((), "unread")],
)
def test_an_election_without_a_winner_is_a_failure_and_no_zero(classes: Sequence[int | None], kind: str) -> None:
    election, winner = held(*classes)
    assert winner is None and election.failure and election.failure.kind == kind and election.answer == ""


def test_a_tally_counts_what_failed_apart() -> None:
    elections = [held(*c)[0] for c in ((1, 1, 1), (1, 1, 2), (1, 2, 3), (None, None, None))]
    counted = tally(elections)
    assert counted and (counted.questions, counted.elected, counted.tied, counted.unread) == (4, 2, 1, 1)
    assert counted.agreement == pytest.approx((1 + 2 / 3 + 1 / 3 + 0) / 4, abs=1e-3)
    assert counted.commonest == 1 and counted.correct is None and tally([]) is None


def test_an_election_that_could_not_be_held_is_in_no_mean() -> None:
    votes = [held(1, 1, 2)[0], held(1, 2, 3)[0]]
    broken = Election("t", "q", "", 3, 0, 0.0, Failure("ValueError", "alike raised"))
    with_it, without = tally([*votes, broken]), tally(votes)
    assert with_it and without and with_it.questions == 3
    assert (with_it.agreement, with_it.entropy) == (without.agreement, without.entropy)
    alone = tally([broken])
    assert alone and alone.elected == 0


def test_votes_collapse_where_agreement_rises_and_entropy_falls_together() -> None:
    def at(agreement: float, entropy: float) -> VoteTally:
        return VoteTally(8, 8, 0, 0, agreement, entropy, 0.1, None)

    first = at(0.5, 0.6)
    assert collapsing(first, at(0.8, 0.3), 0.25, 0.25)
    assert not collapsing(first, at(0.8, 0.5), 0.25, 0.25) and not collapsing(first, at(0.6, 0.2), 0.25, 0.25)
    assert not collapsing(first, at(1.0, 0.0), 1, 1), "1: never"


def domain(**section: Any) -> GuardedDomain:
    made: Mathematics = made_of(build, MathDomain, ROWS, asked=2, **section)
    return GuardedDomain(made, 0.1)


def tried(kind: str, edit: str | None, said: dict[str, list[str]], task: str) -> tuple[Candidate, Trial]:
    name = f"{kind}-{edit}"
    answers = [Answer(q, f"Answer: {s}", 2, "stop", -1.0, n) for q, own in said.items() for n, s in enumerate(own)]
    return Candidate(name, task, kind, edit, 0, 0, 0, None), Trial(name, task, answers=tuple(answers))  # type: ignore[arg-type]


def test_the_version_elects_before_it_learned_and_edits_are_measured_by_that() -> None:
    made = domain()
    task = made.tasks("train")[0]
    gold = task.data["asked"][0]["answers"][0]
    pairs = [
        tried("baseline", None, {"0": [gold, f"{gold}.0", "77"], "1": ["1", "2", "3"]}, task.id),
        tried("edit", "sure of another", {"0": ["77", "77", "77"], "1": ["5", "5", "5"]}, task.id),
        tried("edit", "good", {"0": [gold, gold, ""], "1": ["1", "2", "3"]}, task.id),
        tried("edit", "silent", {"0": ["", "", ""]}, task.id),
    ]
    votes = count_votes(made, [task], [c for c, _ in pairs], [t for _, t in pairs])
    first, second = votes.elections
    assert (first.largest, first.correct, first.failure) == (2, True, None), "7 and 7.0 are one answer"
    assert second.failure and second.failure.kind == "tie" and second.correct is None
    shares = {name: dict(own) for name, own in votes.shares.items()}
    assert shares == {
        "baseline-None": {"0": pytest.approx(2 / 3)},
        "edit-sure of another": {"0": 0.0},
        "edit-good": {"0": pytest.approx(2 / 3)},
        "edit-silent": {"0": 0.0},
    }, "against a winner an answer that says nothing is wrong; where nobody won nothing counts"
    without = count_votes(domain(gold="majority"), [task], [c for c, _ in pairs], [t for _, t in pairs])
    assert without.shares == votes.shares


def test_a_domain_that_can_not_tell_answers_apart_is_refused_and_a_broken_one_is_a_failure() -> None:
    class Deaf:
        name = "deaf"

    with pytest.raises(ConfigError, match="domain deaf does not say which answers are the same"):
        count_votes(GuardedDomain(Deaf(), 0.1), [], [], [])  # type: ignore[arg-type]
    made = domain()
    task = made.tasks("train")[0]
    pairs = [tried("baseline", None, {"0": ["1", "1", "1"]}, task.id)]
    for alike in (lambda *_: 1 / 0, lambda *_: [1]):
        made._domain.alike = alike  # type: ignore[attr-defined]
        votes = count_votes(made, [task], [c for c, _ in pairs], [t for _, t in pairs])
        assert votes.elections[0].failure and not votes.shares


# settings


def configured(tmp_path: Path, *, domain: dict[str, Any] | None = None, **sections: Any) -> Config:
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(map(json.dumps, ROWS)))
    settings: dict[str, Any] = {
        "run": {"uri": str(tmp_path / "run"), "rounds": 3, "tasks_per_round": 2},
        "model": {"name": "builtin:tiny", "chat": "no"},
        "domain": {"name": "math", "data": str(data), "asked": 2, "shown": 1, "validation": 0, "test": 0}
        | (domain or {}),
        "sampling": {"edits": 2},
        "inner": {"repeats": 1, "context_arm": False},
        "answering": {"samples": 4, "temperature": 0.7, "max_tokens": 200},
        "grading": {"grader": "exact", "reward": "vote"},
        "observe": {"progress": "quiet", "ray_metrics": False},
    }
    for name, section in sections.items():
        settings[name] = settings[name] | section
    return Config.model_validate(settings)


@pytest.mark.parametrize(
    ("domain", "why"),
    [
        ({"name": "knowledge"}, "made up"),
        ({"name": "documents", "data": "docs"}, "with the passage at hand"),
        ({"name": "arc", "data": "x"}, "vote over its views"),
        ({"name": "code", "data": "x"}, "a task's tests say what is right"),
    ],
)
def test_where_votes_say_nothing_they_are_refused(domain: dict[str, Any], why: str) -> None:
    exact = {"grader": "exact"} if domain["name"] in {"arc", "code"} else {}
    config = Config.model_validate({"domain": domain, "grading": {"reward": "vote", **exact}})
    with pytest.raises(ConfigError, match=why):
        config_checks.check(config)


def test_votes_need_several_answers_to_a_question(tmp_path: Path) -> None:
    for gold in ("data", "majority"):
        assert not config_checks.check(configured(tmp_path, domain={"gold": gold}))
        for answering in ({"samples": 2}, {"temperature": 0}):
            with pytest.raises(ConfigError, match="a majority needs 3 samples"):
                config_checks.check(configured(tmp_path, domain={"gold": gold}, answering=answering))


# whole runs

Says = Callable[[int, str, int, bool], str]  # by version, problem, sample, and whether something was trained


class VotingCrew(StandInCrew):
    """A crew whose model is a function: what it answers to a problem. Edits are worked problems."""

    def __init__(self, says: Says) -> None:
        folder = models.fetch(ModelSection(name="builtin:tiny"))
        self.tokenizer, self.says, self.version, self.jobs = models.tokenizer(folder), says, 0, list[UpdateJob]()

    def samplers(self, version: Version, adapter: str | None) -> "_Writing":
        return _Writing(self, version)

    def pool(self, version: Version, adapter: str | None) -> "_Answering":
        self.version = version.number
        return _Answering(self)

    def update(self, job: UpdateJob, *, sink: Any, tick: Any) -> UpdateResult:
        self.jobs.append(job)
        Path(job.output).parent.mkdir(parents=True, exist_ok=True)
        write_adapter(Path(job.output), len(self.jobs))
        return updated(job, rank=4, likelihood=(-1.0,), likelihood_before=(-2.0,))


class _Writing(WaitingChunks):
    def __init__(self, crew: VotingCrew, version: Version) -> None:
        super().__init__()
        self._crew, self._version = crew, version

    def write(self, chunk: Sequence[EditPrompt]) -> list[Edit]:
        return [self._edit(p) for p in chunk]

    def _edit(self, p: EditPrompt) -> Edit:
        text = f"Problem: {p.slot} + {p.slot}\nSolution: twice {p.slot}.\nAnswer: {2 * p.slot}"
        ids = tuple(self._crew.tokenizer.encode(text))
        digest = self._version.digest
        return Edit(
            edit_id(digest, p), p.task, p.slot, digest, p.seed, p.prompt_ids, ids, (-1.0,) * len(ids), text, "stop"
        )


class _Answering(WaitingPool):
    def __init__(self, crew: VotingCrew) -> None:
        super().__init__()
        self._crew = crew

    def poll(self, timeout: float) -> list[Trial]:
        done, self._waiting = self._waiting, []
        return [self._trial(a) for a in done]

    def _trial(self, attempt: Attempt) -> Trial:
        crew, answers = self._crew, list[Answer]()
        for ask in attempt.asks:
            problem = crew.tokenizer.decode(list(ask.prompt_ids)).rpartition("Problem: ")[2].partition("\n")[0]
            for n in range(ask.samples):
                said = crew.says(crew.version, problem, n, bool(attempt.examples))
                answers.append(Answer(ask.question, f"Answer: {said}", 2, "stop", -1.0, n))
        losses = (1.0,) if attempt.examples else ()
        return Trial(attempt.candidate.id, attempt.candidate.task, losses, tuple(answers), (), Cost(), "function")


def go(config: Config, crew: VotingCrew, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setattr(rounds, "update", crew.update)
    with Session(config, hire=lambda *_: crew) as session:  # type: ignore[arg-type,return-value]
        rounds.run_rounds(session)
    return Run(config.run.uri)


def sum_of(problem: str) -> str:
    return str(sum(map(int, problem.split(" + "))))


def learning(version: int, problem: str, sample: int, trained: bool) -> str:
    """Half of the answers are right; one more is after training; versions stay as they are."""
    return sum_of(problem) if sample < 2 + trained else f"{sample}00"


def collapsing_to_one(version: int, problem: str, sample: int, trained: bool) -> str:
    """Each version says 0 a little more often than the one before, whatever it is asked."""
    return "0" if sample < 2 + version + trained else f"{sample}00"


def test_a_run_is_rewarded_by_votes_and_they_are_recorded_by_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, domain={"gold": "majority"})
    run = go(config, crew := VotingCrew(learning), monkeypatch)
    assert [r.committed for r in run.rounds()] == [True] * 3 and len(crew.jobs) == 3 and not verify(run.ledger)
    told: Any = run.round(1).rewards
    assert told["measure"] == "vote" and {r["value"]["mean"] for r in told["rewards"]} == {0.25}
    assert [e["largest"] for e in told["elections"]] == [2, 2, 2, 2]
    figures = report.overview(run)["rounds"]
    assert [(f["votes"]["agreement"], f["votes"]["elected"], f["votes"]["correct"]) for f in figures] == [
        (0.5, 4, None)
    ] * 3
    again = regrade.regrade(run)
    assert [r["kept_by_both"] for r in again["rounds"]] == [r["kept"] for r in again["rounds"]]  # type: ignore[index]


def test_where_the_data_has_answers_the_report_says_how_many_winners_are_right(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = go(configured(tmp_path, run={"rounds": 1}), VotingCrew(learning), monkeypatch)
    assert report.overview(run)["rounds"][0]["votes"]["correct"] == 1.0
    run = go(
        configured(tmp_path, run={"rounds": 1, "uri": str(tmp_path / "other")}),
        VotingCrew(collapsing_to_one),
        monkeypatch,
    )
    votes = report.overview(run)["rounds"][0]["votes"]
    assert (votes["correct"], votes["commonest"]) == (0.0, 1.0)


def test_a_run_whose_votes_collapse_stops_before_it_learns_from_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, domain={"gold": "majority"})
    crew = VotingCrew(collapsing_to_one)
    for _ in range(2):  # the same command stops at the same place
        with pytest.raises(CollapseError, match=r"round 3: the votes collapse: .* from 50% to 100%"):
            go(config, crew, monkeypatch)
        assert len(crew.jobs) == 2 and Run(config.run.uri).latest == 2
    votes = [r["votes"] for r in report.overview(Run(config.run.uri))["rounds"]]
    assert [v["agreement"] for v in votes] == [0.5, 0.75, 1.0] and votes[2]["entropy"] == 0.0
    allowed = config.model_copy(update={"grading": config.grading.model_copy(update={"vote_rise": 1.0})})
    assert go(allowed, crew, monkeypatch).latest == 3, "a person may allow more and go on"


def test_where_nobody_wins_there_is_no_reward(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = configured(tmp_path, domain={"gold": "majority"}, run={"rounds": 1})
    run = go(config, crew := VotingCrew(lambda v, p, sample, t: f"{sample}00"), monkeypatch)
    told: Any = run.round(1).rewards
    assert told["rewards"] == [] and not crew.jobs
    assert {e["failure"]["kind"] for e in told["elections"]} == {"tie"}
    assert "4 of 4 questions elect no answer (4 tied, 0 with nothing to read)" in told["notes"][0]
