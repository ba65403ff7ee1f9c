"""The domain of one's own in CONTRIBUTING.md, taken from the page as it stands there: found, trained with, and run."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from seal_ray import config_file, models
from seal_ray.domains import load_domain
from seal_ray.domains.base import Domain
from seal_ray.grading.lexical import LexicalGrader
from seal_ray.loops.history import Run
from seal_ray.records import Ask, Attempt, Candidate, Failure, Recipe, Task
from seal_ray.trials.wave import try_wave

ROOT = Path(__file__).parents[2]
GROUP = "seal_ray.domains"


def written(language: str, holding: str) -> str:
    """The page's block in that language that holds the text."""
    page = (ROOT / "CONTRIBUTING.md").read_text()
    (block,) = (b for b in re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL) if holding in b)
    return block


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A folder with the page's module, installed as its pyproject.toml would have it installed."""
    (tmp_path / "capitals.py").write_text(written("python", "class Capitals"))
    entries = tomllib.loads(written("toml", GROUP))["project"]["entry-points"][GROUP]
    info = tmp_path / "capitals-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: capitals\nVersion: 1.0\n")
    lines = [f"[{GROUP}]", *(f"{name} = {where}" for name, where in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.fixture
def domain(package: Path, monkeypatch: pytest.MonkeyPatch) -> Domain:
    monkeypatch.syspath_prepend(str(package))
    monkeypatch.delitem(sys.modules, "capitals", raising=False)
    config = config_file.parse(written("yaml", "capitals"))
    return load_domain(
        config.domain,
        recipe=Recipe(rank=8, epochs=10, lr=5e-3),
        answering=config.answering,
        chat=False,
        seed=0,
        read=lambda uri: b"",
    )


def test_the_domain_on_the_page_has_about_thirty_lines() -> None:
    lines = [line for line in written("python", "class Capitals").splitlines() if line.strip()]
    assert len(lines) <= 30


def test_the_domain_on_the_page_is_found_by_its_name(domain: Domain) -> None:
    assert domain.name == "capitals"
    (task,) = domain.tasks("train")
    assert isinstance(task, Task) and not domain.tasks("test")
    assert "France" in domain.edit_request(task, 0).prompt.text
    assert domain.parse(task, " Paris. \n") == "Paris."
    assert isinstance(domain.parse(task, " \n"), Failure)


def test_the_domain_on_the_page_teaches_a_model_and_its_answers_get_verdicts(domain: Domain, tmp_path: Path) -> None:
    folder = models.fetch(config_file.parse("model: {name: 'builtin:tiny'}").model)
    tokenizer, model = models.tokenizer(folder), models.load(folder, dtype="float32")
    (task,) = domain.tasks("train")
    asks = tuple(
        Ask(
            q.id,
            tuple(models.render(tokenizer, q.prompt)),
            tuple(tuple(tokenizer.encode(q.lead + g, add_special_tokens=False)) for g in q.gold),
            8,
            q.stop,
        )
        for q in domain.questions(task)
    )
    attempts = [Attempt(Candidate("before", task.id, "baseline", None, -1, 0, 1, None), (), asks)]
    for content in (None, domain.parse(task, "The capital of France is Paris.\n")):
        examples, recipe = domain.training(task, content, tokenizer)
        attempts.append(Attempt(Candidate("after", task.id, "edit", "e", 0, 0, 1, recipe), tuple(examples), asks))
    before, context, edit = try_wave(model, tokenizer, attempts)
    for after in (context, edit):
        assert after.likelihoods[0].logprob > before.likelihoods[0].logprob + 1
        (verdict,) = domain.verdicts(task, "after", after.answers, LexicalGrader())
        assert (verdict.question, verdict.correct, verdict.score) == ("capital", True, 1.0)
    (verdict,) = domain.verdicts(task, "before", before.answers, LexicalGrader())
    assert verdict.correct is False


@pytest.mark.slow
def test_a_round_of_the_domain_on_the_page_is_run_by_the_command(package: Path, tmp_path: Path) -> None:
    """Real Ray, vLLM and DeepSpeed: nothing of them knows this domain."""
    from command import COMMAND, environment

    uri = str(tmp_path / "run")
    section = written("yaml", "capitals").removeprefix("domain:").strip()
    words = ["run", "jobs/tiny.yaml", "--quiet", "--set", f"domain={section}", "--set", f"run.uri={uri}"]
    done = subprocess.run(
        [COMMAND, *words, "--set", "run.rounds=1", "--set", "run.tasks_per_round=1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=environment() | {"PYTHONPATH": str(package)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = Run(uri).round(1)
    assert found.committed and [t.id for t in found.tasks] == ["fr"]
    tried = {t.candidate for t in found.trials if not t.failure}
    assert tried == {c.id for c in found.candidates} == {v.candidate for v in found.verdicts}
