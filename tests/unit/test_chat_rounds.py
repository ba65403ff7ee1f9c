"""A whole round with a chat model that thinks before it answers and knows no system role: real bank, real update."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from seal_ray import models
from seal_ray.config import Config
from seal_ray.loops import rounds
from seal_ray.loops.history import Round, Run
from seal_ray.loops.session import Session
from seal_ray.models.builtin import make_tiny

JOBS = Path(__file__).parents[2] / "jobs"
TEMPLATE = (
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{{ '<start>' + m['role'] + '\n' + m['content'] + '<end>\n' }}{% endfor %}"
    "{{ '<start>assistant\n' }}{% if enable_thinking is defined and enable_thinking is false %}"
    "{{ '<think>\n\n</think>\n\n' }}{% endif %}"
)
NO_THOUGHT = "<think>\n\n</think>\n\n"


@pytest.fixture
def thinker(tmp_path: Path) -> Path:
    folder = tmp_path / "thinker"
    folder.mkdir()
    make_tiny(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | {"chat_template": TEMPLATE}))
    return folder


@pytest.fixture
def one_round(thinker: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(JOBS))
    crew = importlib.import_module("one_process_crew")
    monkeypatch.setattr(rounds, "update", crew.update)

    def run(thinking: str) -> Round:
        config = Config.model_validate(
            {
                "run": {"uri": str(tmp_path / thinking), "rounds": 1, "tasks_per_round": 1},
                "model": {"name": str(thinker), "dtype": "float32", "max_length": 512, "thinking": thinking},
                "domain": {"name": "knowledge", "data": "builtin:quickstart", "max_texts": 2, "max_questions": 4},
                "sampling": {"edits": 2, "max_tokens": 16, "top_p": 1},
                "inner": {"rank": 2, "epochs": 1, "repeats": 1, "max_length": 512, "context_arm": False},
                "answering": {"max_tokens": 32, "samples": 8, "temperature": 1.0},
                "grading": {"reward": "likelihood"},
                "select": {"rule": "threshold", "threshold": -100.0},  # a random model's edits need not help
                "policy": {"rank": 2, "global_batch": 2, "epochs": 1, "checkpointing": False, "dtype": "float32"},
                "observe": {"progress": "quiet", "ray_metrics": False},
            }
        )
        with Session(config, hire=crew.OneProcessCrew().hire) as session:
            rounds.run_rounds(session)
        done = Run(config.run.uri)
        assert done.latest == 1
        return done.round(1)

    return run


@pytest.mark.parametrize("thinking", ["yes", "no"])
def test_a_model_that_thinks_goes_round(thinking: str, thinker: Path, one_round: Any) -> None:
    found = one_round(thinking)
    tokenizer = models.tokenizer(thinker)
    asked = {tokenizer.decode(e.prompt_ids) for e in found.edits}
    assert all("<start>user\n" in text and "<start>system" not in text for text in asked)
    assert {text.endswith(NO_THOUGHT) for text in asked} == {thinking == "no"}
    answers = [a.text for t in found.trials for a in t.answers]
    assert len(answers) >= 64 and not [t.failure for t in found.trials if t.failure]
    # an answer ends with its line, unless it may begin with a thought
    assert any("\n" in text for text in answers) == (thinking == "yes")
    assert found.update and found.update["version"]["number"] == 1 and found.update["edits"]
