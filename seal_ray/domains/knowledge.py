"""Knowledge: learn a passage by heart, and answer questions about it closed book."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from pydantic import ValidationError

from seal_ray.config import AnsweringSection, KnowledgeDomain
from seal_ray.domains import distractors, passages
from seal_ray.domains.base import Grader, Rejected, Tokenizer, verdict
from seal_ray.domains.pairs import QuestionAnswer, pairs
from seal_ray.domains.prompts import edit_prompt, pick_entities, pick_style
from seal_ray.domains.questions import answer_lead, final_answer, question_prompt
from seal_ray.domains.sentences import sentences
from seal_ray.domains.teaching import Teaching, answered, titled
from seal_ray.domains.text_directives import (
    TextDirectives,
    directives_schema,
    instruction,
    read_directives_and_text,
)
from seal_ray.errors import ConfigError, Missing
from seal_ray.records import (
    Answer,
    AskedAs,
    Description,
    EditRequest,
    Example,
    Failure,
    Json,
    Prompt,
    Question,
    Recipe,
    Split,
    Task,
    Verdict,
    digest,
)
from seal_ray.text import after_thought, storable, unwrapped, without_thoughts

MAX_EDIT = 1 << 20  # characters of an edit that are read


def build(
    section: KnowledgeDomain,
    *,
    recipe: Recipe,
    answering: AnsweringSection,
    chat: bool,
    seed: int,
    read: Callable[[str], bytes],
) -> "Knowledge":
    """The domain as it is configured. `read` fetches a path or URI."""
    return Knowledge(section, recipe, answering, chat, seed, read)


def _template(path: str, read: Callable[[str], bytes]) -> str:
    if not path:
        return ""
    try:
        text = read(path).decode()
    except (Missing, FileNotFoundError):
        raise ConfigError(f"domain.template: there is no {path}", hint="give the path of a prompt") from None
    except UnicodeDecodeError:
        raise ConfigError(f"domain.template: {path} is not UTF-8 text", hint="save it as UTF-8") from None
    if "{context}" not in text:
        raise ConfigError(f"domain.template: {path} has no {{context}}", hint="say where the passage goes")
    return text


class Knowledge:
    name = "knowledge"

    def __init__(
        self,
        section: KnowledgeDomain,
        recipe: Recipe,
        answering: AnsweringSection,
        chat: bool,
        seed: int,
        read: Callable[[str], bytes],
    ) -> None:
        self._section, self._recipe = section, recipe
        self._answering, self._chat, self._seed, self._read = answering, chat, seed, read
        self._odd: list[str] = []

    @cached_property
    def _template(self) -> str:
        return _template(self._section.template, self._read)

    @cached_property
    def _tasks(self) -> dict[Split, list[Task]]:
        section, _ = self._section, self._template  # what is missing is found before anything is sampled
        loaded = self._passages()
        into = passages.split_titles(
            (p.group for p in loaded), validation=section.validation, test=section.test, seed=self._seed
        )
        tasks: dict[Split, list[Task]] = {"train": [], "validation": [], "test": []}
        for passage in loaded:
            tasks[into[passage.group]].append(self._task(passage))
        return self._with_distractors(tasks) if section.distractors else tasks

    def _passages(self) -> Sequence[passages.Passage]:
        section = self._section
        loaded = passages.load(section.data, self._read, self._odd.append, section.slice_by)
        if section.slice_by and not any(p.marks for p in loaded):
            raise ConfigError(
                f"domain.slice_by: no passage and no question of {section.data} has a field {section.slice_by!r}",
                hint="name a field that stands beside `question` or `context`",
            )
        return loaded

    @property
    def _targeted(self) -> bool:
        return self._section.style == "targeted" or "targeted" in self._section.mixture

    def _with_distractors(self, tasks: dict[Split, list[Task]]) -> dict[Split, list[Task]]:
        asked = {t.id: [(q.id, q.gold) for q in self.questions(t)] for own in tasks.values() for t in own}
        chosen = distractors.choose(asked, self._section.distractors, self._seed)
        lists = [wrong for own in chosen.values() for wrong in own.values()]
        if lacking := sum(not wrong for wrong in lists):
            self._odd.append(
                f"domain.distractors: for {lacking} of {len(lists)} questions there is no wrong answer of their kind; "
                "they don't count in a contrast; a task of only such questions has none, and a blend is its accuracy "
                "alone"
            )
        return {split: [replace(t, distractors=chosen[t.id]) for t in own] for split, own in tasks.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd in the data, for whoever shows it."""
        _ = self._tasks
        return tuple(self._odd)

    def _task(self, passage: passages.Passage) -> Task:
        questions = [
            {"question": q, "answers": golds, **({"slice": passage.marks[q]} if q in passage.marks else {})}
            for q, golds in passage.questions.items()
        ]
        if self._section.max_questions:
            questions = questions[: self._section.max_questions]
        data = {"title": passage.title, "context": passage.context, "questions": questions}
        if passage.weak and self._targeted:  # no part of what the task is for other styles
            data["weak"] = list(passage.weak)
        slug = re.sub(r"\W+", "-", passage.group)[:40].strip("-")
        return Task(
            id=f"{slug}-{digest([passage.title, passage.context])[:10]}",
            data=data,
            group=passage.group,
            weight=passage.weight,
        )

    def tasks(self, split: Split) -> Sequence[Task]:
        return self._tasks[split]

    def regression(self, uri: str) -> Sequence[Task]:
        return [self._task(passage) for passage in passages.load(uri, self._read, lambda odd: None)]

    def describe(self, task: Task) -> Description:
        asked = [
            AskedAs(_id(task, n), q["question"], tuple(q["answers"])) for n, q in enumerate(task.data["questions"])
        ]
        return Description(task.data["title"], task.data["context"], tuple(asked))

    def edit_request(self, task: Task, slot: int) -> EditRequest:
        section, directives = self._section, self._section.directives
        style = pick_style(section.style, section.mixture, self._seed, task.id, slot)
        schema = directives_schema(directives, section.max_texts) if directives.offered else None
        return EditRequest(
            Prompt(self._edit_prompt(task, slot, style), chat=self._chat),
            style=style,
            schema=schema if directives.constrained else None,
        )

    def _edit_prompt(self, task: Task, slot: int, style: str) -> str:
        title, context, directives = task.data["title"], task.data["context"], self._section.directives
        among = pick_entities(title, context, self._seed, task.id, slot) if style == "entities" else ()
        weak = task.data.get("weak", ()) if style == "targeted" else ()
        chat = self._chat or directives.offered
        asked = edit_prompt(style, title, context, chat=chat, template=self._template, among=among, weak=weak)
        if not directives.offered:
            return asked
        return f"{asked}\n\n{instruction(directives, self._section.max_texts)}" + ("" if self._chat else "\n\nJSON: ")

    def parse(self, task: Task, text: str) -> Json | Failure:
        """The edit's text, without thoughts in tags; an empty one or a mere copy of what was asked is none."""
        text = without_thoughts(storable(text[:MAX_EDIT]), unfinished=True).strip()
        if self._section.directives.offered:
            read = read_directives_and_text(text, self._section.directives, self._section.max_texts)
            if isinstance(read, Failure):
                return read
            alone = read.passage and not (read.statements or read.questions)
            failure = None if alone else self._no_edit(task, read.text)
            return failure or read.model_dump()
        return self._no_edit(task, text) or text

    def _no_edit(self, task: Task, text: str) -> Failure | None:
        if not re.search(r"\w", text):
            return Failure("no_text", "the edit is empty")
        style = self._section.style
        styles = self._section.mixture if style == "mixture" else [style]
        flat = _flat(text)
        for prompt in [self._edit_prompt(task, 0, s) for s in styles]:
            asked = _flat(prompt)
            if flat in asked or flat.removeprefix(asked).strip() in asked:
                return Failure("copies_prompt", f"the edit only repeats what was asked: {text[:60]!r}")
        return None

    def training(self, task: Task, content: Json, tokenizer: Tokenizer) -> tuple[list[Example], Recipe]:
        """`content`: a text; several that are trained on as one edit; or directives with a text."""
        chosen = _directives(content)
        if content is not None and not chosen and _texts(content) is None:
            raise Rejected(Failure("unparsable", f"an edit is a text, not a {type(content).__name__}"))
        recipe = self._recipe
        if chosen:
            recipe = replace(recipe, objective=chosen.objective, lr=chosen.learning_rate, epochs=chosen.epochs)
        how = self._teaching(task, recipe, tokenizer)
        pieces = self._pieces(task, content)
        if content is not None and not pieces and not (chosen and chosen.passage):
            raise Rejected(Failure("no_text", "nothing to train on is left of the edit"))
        if content is not None and pieces and (failure := answered(pieces, recipe.objective)):
            raise Rejected(failure)
        alone = [how.text(titled(how.title, how.context))] if self._with_passage(content, chosen) else []
        examples = [*map(how.example, pieces), *alone]
        limit = self._section.directives.max_steps
        if chosen and (steps := recipe.steps(len(examples))) > limit:
            message = f"{steps} steps for {len(examples)} texts are over domain.directives.max_steps: {limit}"
            raise Rejected(Failure("over_budget", message))
        return examples, recipe

    def answers(self, task: Task, tokenizer: Tokenizer) -> list[Example]:
        """The task's own questions, asked as they are after training, with a right answer to learn."""
        how = self._teaching(task, replace(self._recipe, objective="answers"), tokenizer)
        return [how.example(QuestionAnswer(q["question"], q["answers"][0])) for q in task.data["questions"]]

    def sentences(self, task: Task, tokenizer: Tokenizer) -> list[Example]:
        """Each sentence of the passage by itself: what it says must be known, and can't be read off the one before."""
        how = self._teaching(task, self._recipe, tokenizer)
        spans = sentences(how.context)
        return [how.text(titled(how.title, unwrapped(how.context[a:b]))) for a, b in spans] if len(spans) > 1 else []

    def _teaching(self, task: Task, recipe: Recipe, tokenizer: Tokenizer) -> Teaching:
        section = self._section
        return Teaching(
            task.data["title"],
            task.data["context"],
            recipe.objective,
            tokenizer,
            self._chat,
            recipe.max_length,
            section.thought,
            section.mask_until,
        )

    def texts(self, task: Task, content: Json) -> Sequence[str]:
        title, context = task.data["title"], task.data["context"]
        chosen = _directives(content)
        if content is not None and not chosen and _texts(content) is None:
            return []
        own = [titled(title, str(piece)) for piece in self._pieces(task, content)]
        return [*own, titled(title, context)] if self._with_passage(content, chosen) else own

    def _with_passage(self, content: Json, chosen: TextDirectives | None) -> bool:
        """Whether the passage itself is learned: as directives or configuration say, and where there is no edit."""
        return chosen.passage if chosen else content is None or self._section.add_context

    def _pieces(self, task: Task, content: Json) -> list[str | QuestionAnswer]:
        """What of an edit is trained on: its texts, or where the objective wants them the answers to its questions."""
        section, pieces = self._section, []
        if chosen := _directives(content):
            return chosen.pieces(lambda text: edit_texts(text, split_lines=section.split_lines))
        for text in _texts(content) or []:
            own: Sequence[str | QuestionAnswer] = pairs(text) if self._recipe.objective != "text" else []
            if not own:
                own = edit_texts(text, split_lines=section.split_lines)
            pieces += own[: section.max_texts]
        return pieces

    def questions(self, task: Task) -> Sequence[Question]:
        thought, title = self._section.thought, task.data["title"]
        return [
            Question(
                id=_id(task, number),
                prompt=question_prompt(title, item["question"], chat=self._chat, thought=thought),
                gold=tuple(item["answers"]),
                text=item["question"],
                max_tokens=self._answering.max_tokens,
                lead=answer_lead(self._chat, thought),
                stop=("\nQuestion:",) if thought else ("\n",),
            )
            for number, item in enumerate(task.data["questions"])
        ]

    def verdicts(self, task: Task, candidate: str, answers: Sequence[Answer], grader: Grader) -> Sequence[Verdict]:
        given: dict[str, list[str]] = {}
        questions = self.questions(task)
        stops = {q.id: q.stop for q in questions}
        for answer in answers:
            text = after_thought(answer.text, stops.get(answer.question, ()))
            given.setdefault(answer.question, []).append(final_answer(text) if self._section.thought else text)
        grades = iter(grader.grade([(q.text, q.gold, text) for q in questions for text in given.get(q.id, [])]))
        return [verdict(candidate, q.id, grader.name, [next(grades) for _ in given.get(q.id, [])]) for q in questions]


def _id(task: Task, number: int) -> str:
    return f"{task.id}#{number}"


def _directives(content: Json) -> TextDirectives | None:
    """The directives of an edit that was parsed; None where it has none."""
    try:
        return TextDirectives.model_validate(content) if isinstance(content, dict) else None
    except ValidationError:
        return None


def _texts(content: Json) -> list[str] | None:
    """The texts of an edit; None where it is not made of texts."""
    texts = [content] if isinstance(content, str) else content
    return texts if isinstance(texts, list) and texts and all(isinstance(t, str) for t in texts) else None


# Training texts


def training_texts(
    edit: str,
    *,
    title: str,
    context: str,
    split_lines: bool = True,
    max_texts: int = 30,
    add_context: bool = True,
) -> list[str]:
    """What an adapter is trained on: the edit cut into texts, each under the title, and the passage itself last."""
    texts = [titled(title, s) for s in edit_texts(edit, split_lines=split_lines)][:max_texts]
    return [*texts, titled(title, context)] if add_context else texts


def edit_texts(edit: str, *, split_lines: bool = True) -> list[str]:
    """An edit cut into texts: at `---`, and with `split_lines` at line ends."""
    edit = edit.replace("\r\n", "\n").replace("\r", "\n")
    _, mark, after = edit.partition("\nImplications:")
    segments = [s.strip() for s in (after if mark else edit).split("---")]
    if split_lines:
        segments = _lines([s for s in segments if s])
    return [s for s in segments if s]


_QUESTION = re.compile(r"(?=Question\s+\d+:)")


def _lines(segments: list[str]) -> list[str]:
    """Questions with their answers, where the edit has such; else lines, without a preamble before a list."""
    whole = "\n".join(segments)
    if _QUESTION.search(whole) and "Answer:" in whole:
        pieces = [p.strip() for s in segments for p in _QUESTION.split(s) if p.strip()]
        return pieces if _QUESTION.match(pieces[0]) else [f"Question 1: {pieces[0]}", *pieces[1:]]
    lines = [line.strip() for line in whole.split("\n") if line.strip()]
    return lines[1:] if len(lines) > 1 and lines[1].startswith("1.") else lines


def _flat(text: str) -> str:
    return " ".join(text.split())
