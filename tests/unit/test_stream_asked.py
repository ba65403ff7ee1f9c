"""A stream whose steps keep an adapter each, asked when it is over: who answers is who the exam would have chosen."""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
from one_process_crew import OneProcessCrew
from test_study import configured, streamed
from test_study_arms import SAMPLED, opened
from two_versions import two_versions
from typer.testing import CliRunner

from seal_ray import cli, models
from seal_ray.commands import ask, export, serve
from seal_ray.commands.served import find, name_of, step_adapters
from seal_ray.config import StorageSection
from seal_ray.domains import configured as domain_of
from seal_ray.domains.questions import question_prompt
from seal_ray.errors import ConfigError, InfraError
from seal_ray.loops import stream
from seal_ray.loops.history import Run
from seal_ray.loops.studying import route
from seal_ray.sampling.engine import EngineSettings, GeneratedText, GenerateRequest

STEPS, QUESTIONS = 3, 2
CHANGES = [
    "study.keep.method=separate", "study.sequences=1", f"study.steps={STEPS}", f"domain.max_questions={QUESTIONS}",
    "policy.epochs=1",
]  # fmt: skip


class TorchEngine:
    """In vLLM's place: the same model and adapters, and the likeliest token each time."""

    asked: ClassVar[list[str | None]]

    def __init__(self, base: str, settings: EngineSettings) -> None:
        self._base, self._models = base, dict[str | None, Any]()
        assert settings.lora_rank in {0, 4}

    def _model(self, adapter: str | None) -> Any:
        if adapter not in self._models:
            self._models[adapter] = models.load(self._base, dtype="float32", device="cpu", adapter=adapter)
        return self._models[adapter]

    def _logits(self, ids: Sequence[int], adapter: str | None) -> Any:
        import torch

        with torch.no_grad():
            return self._model(adapter)(input_ids=torch.tensor([list(ids)])).logits[0].log_softmax(-1)

    def score(self, texts: Sequence[Sequence[int]], adapters: Sequence[str | None]) -> list[list[float]]:
        return [
            [float(row[token]) for row, token in zip(self._logits(ids, a), ids[1:], strict=False)]
            for ids, a in zip(texts, adapters, strict=True)
        ]

    def generate(self, requests: Sequence[GenerateRequest], adapters: Sequence[str | None]) -> list[GeneratedText]:
        self.asked[:] = adapters
        tokenizer, out = models.tokenizer(self._base), []
        for request, adapter in zip(requests, adapters, strict=True):
            ids = list(request.prompt_ids)
            for _ in range(request.max_tokens):
                ids.append(int(self._logits(ids, adapter)[-1].argmax()))
            new = tuple(ids[len(request.prompt_ids) :])
            out.append(GeneratedText(new, (), tokenizer.decode(new, skip_special_tokens=True), "length"))
        return out

    def close(self) -> None:
        pass


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> type[TorchEngine]:
    TorchEngine.asked = []
    monkeypatch.setattr("seal_ray.sampling.engine.Engine", TorchEngine)
    return TorchEngine


@dataclass(frozen=True)
class Learned:
    """A stream, and the steps that its last exam chose by number of the task | question."""

    run: Run
    chosen: dict[str, int]


def learned(folder: Path, router: str) -> Learned:
    chosen: list[dict[str, int]] = []

    def noting(name: str) -> Any:
        routes = getattr(route, name)

        def noted(*given: Any) -> dict[str, int]:
            chosen.append(routes(*given))
            return chosen[-1]

        return noted

    with pytest.MonkeyPatch.context() as patch:
        for name in ("by_texts", "by_likelihood"):
            patch.setattr(stream, name, noting(name))
        run = streamed(folder, *CHANGES, f"study.keep.router={router}")
    return Learned(run, chosen[-1])


@pytest.fixture(scope="module")
def by_router(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Learned]:
    folder = tmp_path_factory.mktemp("streams")
    return {router: learned(folder / router, router) for router in ("texts", "likelihood")}


@pytest.fixture
def run(by_router: dict[str, Learned]) -> Run:
    return by_router["texts"].run


def in_exam(by_exam: Learned) -> list[tuple[str, str, int]]:
    """Title and question of all that the last exam asked, and the step that was chosen."""
    run = by_exam.run
    domain = domain_of(run.config)
    by_id = {t.id: t for t in (*domain.tasks("train"), *domain.tasks("validation"))}
    row = (run.ledger.round(STEPS + 1).get(stream.ROW) or {})["rows"][0]
    out = []
    for number, task in enumerate(by_id[name] for name in row["exam"]):
        for question, plain in zip(domain.questions(task), task.data["questions"], strict=True):
            out.append((task.data["title"], plain["question"], by_exam.chosen[f"{number}|{question.id}"]))
    return out


@pytest.mark.parametrize("router", ["texts", "likelihood"])
def test_a_question_is_answered_by_the_step_that_the_exam_chose(
    by_router: dict[str, Learned], tmp_path: Path, engine: type[TorchEngine], router: str
) -> None:
    run, asked = by_router[router].run, in_exam(by_router[router])
    served = find(run.uri, StorageSection(), str(tmp_path / "scratch"))
    versions = [v for v in run.versions() if v.path]
    assert len({step for *_, step in asked}) > 1, "several steps answer"
    for title, question, step in {one[2]: one for one in asked}.values():
        said = ask.ask(served, question, topic=title, max_tokens=1)
        assert said.chosen == (name_of(versions[step - 1]) if step else "base"), question
        assert list(said.answers) == (["base", said.chosen] if step else ["base"])
        assert said.chosen in ask.show(said) and ask.as_data(said)["chosen"] == said.chosen
        folder = str(tmp_path / "scratch" / versions[step - 1].digest[:16])
        assert engine.asked == ([None, folder] if step else [None])


def test_words_choose_for_every_question_as_in_the_exam(by_router: dict[str, Learned], tmp_path: Path) -> None:
    served = find(by_router["texts"].run.uri, StorageSection(), str(tmp_path))
    assert served.steps
    for title, question, step in in_exam(by_router["texts"]):
        prompt = question_prompt(title, question, chat=served.chat).text
        assert served.steps.by_words(prompt, served.base, chat=served.chat) == step


def test_an_earlier_version_is_asked_as_it_was_then(run: Run, tmp_path: Path, engine: type[TorchEngine]) -> None:
    title, text = of_step(run, STEPS + 1)
    said = {}
    for number in (0, 2, STEPS + 1):
        served = find(f"{run.uri}#{number}", StorageSection(), str(tmp_path / "scratch"))
        assert served.steps and len(served.steps.versions) == max(number, 1)
        said[number] = ask.ask(served, text, topic=title, max_tokens=1).chosen
    assert said == {0: "base", 2: "version-2", STEPS + 1: f"version-{STEPS + 1}"}


def test_the_version_of_any_other_stream_answers_by_itself(tmp_path: Path, engine: type[TorchEngine]) -> None:
    run = streamed(tmp_path / "run", *CHANGES, "study.keep.method=none", "study.steps=1")
    served = find(run.uri, StorageSection(), str(tmp_path / "scratch"))
    assert served.steps is None and list(served.adapters) == ["version-2"]
    said = ask.ask(served, "Who?", max_tokens=1)
    assert list(said.answers) == ["base", "version-2"] and "chosen" not in ask.as_data(said)
    assert not export.note(run)


class Taking:
    """A server that takes adapters."""

    def __init__(self, *loaded: str) -> None:
        self.loaded = dict.fromkeys(loaded, "")

    def load(self, name: str, folder: str) -> None:
        assert Path(folder, "adapter_model.safetensors").is_file()
        self.loaded[name] = folder


def test_all_steps_are_served_by_name_and_those_that_come_later_too(run: Run, tmp_path: Path) -> None:
    names = [f"version-{n}" for n in range(2, STEPS + 2)]
    served = find(run.uri, StorageSection(), str(tmp_path / "scratch"))
    assert served.steps and list(step_adapters(served.steps, served.scratch)) == names and served.rank == 4
    begun, told = Taking("version-2"), list[Any]()
    serve._load_newer(served, begun, str(tmp_path / "scratch"), lambda text, data: told.append(data))  # type: ignore[arg-type]
    assert list(begun.loaded) == names and told == [{"loaded": n} for n in names[1:]]


def test_a_stream_that_began_with_a_version_goes_back_to_that(tmp_path: Path) -> None:
    two_versions(str(tmp_path / "other"), tmp_path)
    changes = [*SAMPLED, *CHANGES, f"study.texts=version:{tmp_path / 'other'}#1", "study.steps=1"]
    config = configured(tmp_path / "run", *changes)
    with opened(config, OneProcessCrew()) as session:
        stream.run_stream(session)
    served = find(config.run.uri, StorageSection(), str(tmp_path / "scratch"))
    assert served.steps and list(step_adapters(served.steps, served.scratch)) == ["beginning", "version-2"]
    assert served.steps.by_words("xyzzy?", served.base, chat=False) == 0


class Answering(BaseHTTPRequestHandler):
    """Says which model was asked; knows the base and version 2."""

    models: ClassVar[list[str]]

    def do_POST(self) -> None:
        name = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["model"]
        self.models.append(name)
        data = json.dumps({"choices": [{"text": f" I am {name}"}]}).encode()
        self.send_response(200 if name in {"base", "version-2"} else 404)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        pass


def of_step(run: Run, number: int) -> tuple[str, str]:
    (task,) = run.round(number).tasks[:1]
    return task.data["title"], task.data["context"]


def test_a_server_is_asked_for_the_step_that_the_words_choose(run: Run, tmp_path: Path) -> None:
    served = find(run.uri, StorageSection(), str(tmp_path / "scratch"))
    Answering.models = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as http:
        threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
        url = f"http://127.0.0.1:{http.server_address[1]}/v1"
        title, text = of_step(run, 2)
        said = ask.ask_server(url, "", served, text, topic=title)
        assert said.answers == {"base": "I am base", "version-2": "I am version-2"} and said.chosen == "version-2"
        title, text = of_step(run, 3)
        with pytest.raises(InfraError, match="answers 404") as lacking:
            ask.ask_server(url, "", served, text, topic=title)
        assert "for this run" in str(lacking.value)
        http.shutdown()
    assert Answering.models == ["base", "version-2", "base", "version-3"]


def test_a_server_can_not_say_who_finds_a_question_likely(by_router: dict[str, Learned], tmp_path: Path) -> None:
    served = find(by_router["likelihood"].run.uri, StorageSection(), str(tmp_path / "scratch"))
    with pytest.raises(ConfigError, match="chosen by likelihood") as refused:
        ask.ask_server("http://127.0.0.1:1/v1", "", served, "Who?")
    assert "leave --server out" in str(refused.value)


def test_an_export_says_that_it_is_one_steps_adapter(run: Run, tmp_path: Path) -> None:
    words = ["export", run.uri, "--as", "adapter", "--round", "2", "--to"]
    shown = CliRunner().invoke(cli.app, [*words, str(tmp_path / "one")])
    assert shown.exit_code == 0 and "one step's adapter alone" in shown.output, shown.output
    assert "--round N" in export.note(run)
