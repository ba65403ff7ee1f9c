"""Mathematics: from problems to prompts, training sets and verdicts."""

from collections.abc import Callable, Sequence

from seal_ray.config import MathDomain
from seal_ray.domains.base import Grader, verdict
from seal_ray.domains.computed import GRADER, ComputedDomain, Solved
from seal_ray.domains.math import answers as reading
from seal_ray.domains.math.problems import load, tasks_of
from seal_ray.domains.math.prompts import ASKED, edit_prompt, leads, lessons_in, question_prompt
from seal_ray.errors import InfraError
from seal_ray.records import Answer, AskedAs, Description, Failure, Prompt, Question, Task, Verdict

NO_MAJORITY = Failure("no_majority", "no answer has more votes than every other, so there is none to be right")


class Mathematics(ComputedDomain):
    """Problems, learned from edits about one of them and asked on others of its kind."""

    name = "math"
    styles = tuple(ASKED)
    unsolved = "the edit answers none of its problems"

    def _load(self, section: MathDomain, warn: Callable[[str], None]) -> Sequence[Task]:
        return tasks_of(load(section, self._read, warn), section, self._seed)

    def regression(self, uri: str) -> Sequence[Task]:
        """Its answers are the data's: a majority of samples is no measure of what got worse."""
        return self._load(self._section.model_copy(update={"data": uri, "gold": "data"}), lambda odd: None)

    def _split_group(self, task: Task) -> str:
        return task.id  # no problem is in two tasks

    def describe(self, task: Task) -> Description:
        asked = [AskedAs(str(n), q["problem"], tuple(q["answers"])) for n, q in enumerate(task.data["asked"])]
        parts = [task.data["context"], *task.data["shown"]]
        return Description(task.group or task.id, "\n\n".join(p for p in parts if p), tuple(asked))

    # edits

    def _edit_prompt(self, task: Task, style: str) -> str:
        return edit_prompt(
            style, task.data["context"], self._problems(task), chat=self._chat, thought=self._section.thought
        )

    def _problems(self, task: Task) -> str:
        return "\n\n".join(task.data["shown"])

    def _lessons(self, task: Task, edit: str) -> list[Solved]:
        section = self._section
        return lessons_in(edit, self._problems(task), thought=section.thought, most=section.max_texts)

    # training

    def _shown(self, task: Task) -> str:
        return f"{task.data['context']}\n{self._problems(task)}".strip()

    def _asked(self, problem: str, *, chat: bool) -> Prompt:
        return question_prompt(problem, chat=chat, thought=self._section.thought)

    def _answered(self, said: str) -> str:
        return said if self._chat else f" {said}"

    # questions and answers

    def questions(self, task: Task) -> Sequence[Question]:
        thought = self._section.thought
        return [
            Question(
                id=str(number),
                prompt=self._asked(item["problem"], chat=self._chat),
                gold=tuple(item["answers"]),
                text=item["problem"],
                max_tokens=self._max_tokens,
                lead=leads(self._chat, thought),
                stop=() if self._chat else ("\nProblem:",) if thought else ("\n",),
            )
            for number, item in enumerate(task.data["asked"])
        ]

    def verdicts(
        self, task: Task, candidate: str, answers: Sequence[Answer], grader: Grader | None = None
    ) -> Sequence[Verdict]:
        """One verdict for each problem asked. No grader is asked: an answer is right or wrong by itself."""
        given: dict[str, list[str]] = {}
        for answer in answers:
            given.setdefault(answer.question, []).append(reading.final(answer.text))
        try:
            asked = [(q.id, own := given.get(q.id, []), self._accepted(q, own)) for q in self.questions(task)]
            right = iter(reading.right([(said, accepted) for _, own, accepted in asked if accepted for said in own]))
        except InfraError as error:  # it may work elsewhere or later, and is not recorded
            failure = Failure("sympy", str(error), "infra")
            return [Verdict(candidate, q.id, GRADER, None, None, failure) for q in self.questions(task)]
        return [
            verdict(candidate, question, GRADER, [(ok := next(right), float(ok)) for _ in own])
            if accepted or not own
            else Verdict(candidate, question, GRADER, None, None, NO_MAJORITY)
            for question, own, accepted in asked
        ]

    def alike(self, task: Task, question: str, texts: Sequence[str]) -> Sequence[int | None]:
        return reading.alike([reading.final(text) for text in texts])

    def _accepted(self, question: Question, said: Sequence[str]) -> Sequence[str]:
        if self._section.gold == "data":
            return question.gold
        elected = reading.majority(said)
        return [elected] if elected else []


build = Mathematics
