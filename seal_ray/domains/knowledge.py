"""Knowledge: learn a passage by heart, and answer questions about it closed book."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cached_property

from seal_ray.config import AnsweringSection, KnowledgeDomain
from seal_ray.domains import distractors, passages
from seal_ray.domains.base import Grader, Rejected, Tokenizer, verdict
from seal_ray.domains.prompts import edit_prompt, pick_entities, pick_style
from seal_ray.errors import ConfigError, DataError, Missing
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
from seal_ray.text import after_thought, storable, without_thoughts

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
        loaded = passages.load(section.data, self._read, self._odd.append)
        into = passages.split_titles(
            (p.group for p in loaded), validation=section.validation, test=section.test, seed=self._seed
        )
        tasks: dict[Split, list[Task]] = {"train": [], "validation": [], "test": []}
        for passage in loaded:
            tasks[into[passage.group]].append(self._task(passage))
        return self._with_distractors(tasks) if section.distractors else tasks

    def _with_distractors(self, tasks: dict[Split, list[Task]]) -> dict[Split, list[Task]]:
        asked = {t.id: [(q.id, q.gold) for q in self.questions(t)] for own in tasks.values() for t in own}
        chosen = distractors.choose(asked, self._section.distractors, self._seed)
        return {split: [replace(t, distractors=chosen[t.id]) for t in own] for split, own in tasks.items()}

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was odd in the data, for whoever shows it."""
        _ = self._tasks
        return tuple(self._odd)

    def _task(self, passage: passages.Passage) -> Task:
        questions = [{"question": q, "answers": golds} for q, golds in passage.questions.items()]
        if self._section.max_questions:
            questions = questions[: self._section.max_questions]
        slug = re.sub(r"\W+", "-", passage.group)[:40].strip("-")
        return Task(
            id=f"{slug}-{digest([passage.title, passage.context])[:10]}",
            data={"title": passage.title, "context": passage.context, "questions": questions},
            group=passage.group,
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
        style = pick_style(self._section.style, self._section.mixture, self._seed, task.id, slot)
        return EditRequest(Prompt(self._edit_prompt(task, slot, style), chat=self._chat), style=style)

    def _edit_prompt(self, task: Task, slot: int, style: str) -> str:
        title, context = task.data["title"], task.data["context"]
        among = pick_entities(title, context, self._seed, task.id, slot) if style == "entities" else ()
        return edit_prompt(style, title, context, chat=self._chat, template=self._template, among=among)

    def parse(self, task: Task, text: str) -> Json | Failure:
        """The edit's text, without thoughts in tags; an empty one or a mere copy of what was asked is none."""
        text = without_thoughts(storable(text[:MAX_EDIT]), unfinished=True).strip()
        if not re.search(r"\w", text):
            return Failure("no_text", "the edit is empty")
        style = self._section.style
        styles = self._section.mixture if style == "mixture" else [style]
        flat = _flat(text)
        for prompt in [self._edit_prompt(task, 0, s) for s in styles]:
            asked = _flat(prompt)
            if flat in asked or flat.removeprefix(asked).strip() in asked:
                return Failure("copies_prompt", f"the edit only repeats what was asked: {text[:60]!r}")
        return text

    def training(self, task: Task, content: Json, tokenizer: Tokenizer) -> tuple[list[Example], Recipe]:
        if content is not None and not isinstance(content, str):
            raise Rejected(Failure("unparsable", f"an edit is a text, not a {type(content).__name__}"))
        texts = self.texts(task, content)
        if content is not None and len(texts) <= int(self._section.add_context):
            raise Rejected(Failure("no_text", "nothing to train on is left of the edit"))
        return [self._example(text, tokenizer) for text in texts], self._recipe

    def texts(self, task: Task, content: Json) -> Sequence[str]:
        title, context, section = task.data["title"], task.data["context"], self._section
        if not isinstance(content, str):
            return [_titled(title, context)] if content is None else []
        return training_texts(
            content,
            title=title,
            context=context,
            split_lines=section.split_lines,
            max_texts=section.max_texts,
            add_context=section.add_context,
        )

    def _example(self, text: str, tokenizer: Tokenizer) -> Example:
        """The text's tokens and exactly one end-of-text, so that the model learns to stop; all carry loss."""
        end = tokenizer.eos_token_id
        if end is None:
            raise DataError("the tokenizer has no end-of-text token", hint="use a model whose tokenizer has one")
        # what a model wrote is text: a special token's name in it must not become that token
        ids = tokenizer(text, split_special_tokens=True)["input_ids"]
        ids = (*ids[:-1], end) if ids and ids[-1] == end else (*ids, end)
        if len(ids) > self._recipe.max_length:
            raise Rejected(
                Failure("too_long", f"a text of {len(ids)} tokens is over inner.max_length {self._recipe.max_length}")
            )
        return Example(ids=ids, mask=(True,) * len(ids))

    def questions(self, task: Task) -> Sequence[Question]:
        thought, title = self._section.thought, task.data["title"]
        return [
            Question(
                id=_id(task, number),
                prompt=question_prompt(title, item["question"], chat=self._chat, thought=thought),
                gold=tuple(item["answers"]),
                text=item["question"],
                max_tokens=self._answering.max_tokens,
                lead=_lead(self._chat, thought),
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
    edit = edit.replace("\r\n", "\n").replace("\r", "\n")
    _, mark, after = edit.partition("\nImplications:")
    segments = [s.strip() for s in (after if mark else edit).split("---")]
    if split_lines:
        segments = _lines([s for s in segments if s])
    texts = [_titled(title, s) for s in segments if s][:max_texts]
    return [*texts, _titled(title, context)] if add_context else texts


_QUESTION = re.compile(r"(?=Question\s+\d+:)")


def _lines(segments: list[str]) -> list[str]:
    """Questions with their answers, where the edit has such; else lines, without a preamble before a list."""
    whole = "\n".join(segments)
    if _QUESTION.search(whole) and "Answer:" in whole:
        pieces = [p.strip() for s in segments for p in _QUESTION.split(s) if p.strip()]
        return pieces if _QUESTION.match(pieces[0]) else [f"Question 1: {pieces[0]}", *pieces[1:]]
    lines = [line.strip() for line in whole.split("\n") if line.strip()]
    return lines[1:] if len(lines) > 1 and lines[1].startswith("1.") else lines


def _titled(title: str, text: str) -> str:
    return f"{title.strip()}\n{text.strip()}"


def _flat(text: str) -> str:
    return " ".join(text.split())


# Questions and answers

FINAL = "Final answer:"


def question_prompt(title: str, question: str, *, chat: bool, thought: bool = False) -> Prompt:
    """How a question is asked closed book. A base model goes on after `Answer:` or `Thoughts:`."""
    if chat:
        how = (
            f"First think about what you know of the topic, then end with `{FINAL}` and the answer in a few words."
            if thought
            else "Answer with a few words and nothing else."
        )
        return Prompt(f"Topic: {title}\n{question}", system=f"Answer the question from memory. {how}", chat=True)
    if thought:
        return Prompt(
            f"Think about the question, then end with `{FINAL}` and a short answer.\n\n"
            f"Topic: {title}\nQuestion: {question}\nThoughts:"
        )
    return Prompt(f"Give a short answer to the question.\n\nTopic: {title}\nQuestion: {question}\nAnswer:")


def _lead(chat: bool, thought: bool) -> str:
    """What stands between the prompt and a gold answer, so that it reads as the model itself would write it."""
    if thought:
        return f"{FINAL} " if chat else f"\n{FINAL} "
    return "" if chat else " "


def final_answer(text: str) -> str:
    """What an answer that thinks aloud comes to: after the last mark, else in a box, else its last line."""
    text = without_thoughts(text)
    marks = list(re.finditer(r"(?i)\b(?:final answer|answer)\b[\s*]*(?::|：|\bis\b)[\s*:]*", text))
    if marks and (rest := text[marks[-1].end() :].strip(" \n*")):
        return rest.split("\n")[0].strip(" *")
    if boxed := re.findall(r"\\boxed\{([^{}]*)\}", text):
        return boxed[-1].strip()
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    return lines[-1] if lines else ""
