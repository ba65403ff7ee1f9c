"""What an edit's pieces are trained on under an objective: texts, answers, and what a teacher reads before them."""

from collections.abc import Sequence
from dataclasses import dataclass

from seal_ray.domains.base import Rejected, Tokenizer
from seal_ray.domains.pairs import QuestionAnswer
from seal_ray.domains.questions import answer_lead, question_prompt
from seal_ray.errors import DataError
from seal_ray.records import Example, Failure, Objective, Prompt
from seal_ray.tokens import render, text_ids

KNOWN = "The answer to the next question is: {answer}"


@dataclass(frozen=True)
class Teaching:
    """How one passage is taught."""

    title: str
    context: str
    objective: Objective
    tokenizer: Tokenizer
    chat: bool
    max_length: int
    thought: bool = False  # questions are asked so that answers think aloud
    mask_until: str = ""  # texts carry loss after this

    def example(self, piece: str | QuestionAnswer) -> Example:
        if isinstance(piece, QuestionAnswer) and self.objective != "text":
            return self._answer(piece)
        if self.objective == "distill":
            return self._taught_text(str(piece))
        return self.text(titled(self.title, str(piece)))

    def text(self, text: str) -> Example:
        """The text's tokens and exactly one end-of-text, so that the model learns to stop; all carry loss."""
        # what a model wrote is text: a special token's name in it must not become that token
        ids = self.tokenizer(text, split_special_tokens=True)["input_ids"]
        ids = (*ids[:-1], self._end) if ids and ids[-1] == self._end else (*ids, self._end)
        if len(ids) > self.max_length:
            raise Rejected(
                Failure("too_long", f"a text of {len(ids)} tokens is over inner.max_length {self.max_length}")
            )
        return Example(ids=ids, mask=self._mask(text, ids))

    def _mask(self, text: str, ids: tuple[int, ...]) -> tuple[bool, ...]:
        """Loss on everything, or on what comes after a text's first `mask_until`."""
        at = text.find(self.mask_until) if self.mask_until else -1
        if at < 0:
            return (True,) * len(ids)
        spans = self.tokenizer(text, split_special_tokens=True, return_offsets_mapping=True)["offset_mapping"]
        # counted from the front: a tokenizer that ends texts gives that token no place in them
        masked = next((n for n, (start, _) in enumerate(spans) if start >= at + len(self.mask_until)), len(spans))
        # the end of the text is learned in any case
        return tuple(n >= masked or n == len(ids) - 1 for n in range(len(ids)))

    def _taught_text(self, text: str) -> Example:
        """The text after its title, which the teacher reads after the passage."""
        lead = f"{self.title.strip()}\n"
        teacher = render(self.tokenizer, Prompt(f"{titled(self.title, self.context)}\n\n{lead}"))
        return self._closed(Prompt(lead), text.strip(), tuple(teacher))

    def _answer(self, pair: QuestionAnswer) -> Example:
        """The pair asked closed book as questions are, with the loss on the answer; the teacher reads the passage."""
        asked = question_prompt(self.title, pair.question, chat=self.chat, thought=self.thought)
        teacher: tuple[int, ...] = ()
        if self.objective != "answers":
            context = titled(self.title, self.context)
            if self.objective == "distill_on_policy":
                context += f"\n\n{KNOWN.format(answer=pair.answer)}"
            opened = question_prompt(self.title, pair.question, chat=self.chat, thought=self.thought, context=context)
            teacher = tuple(render(self.tokenizer, opened))
        return self._closed(asked, answer_lead(self.chat, self.thought) + pair.answer, teacher)

    def _closed(self, asked: Prompt, answer: str, teacher: tuple[int, ...]) -> Example:
        before, after = render(self.tokenizer, asked), (*text_ids(self.tokenizer, answer), self._end)
        return Example((*before, *after), (False,) * len(before) + (True,) * len(after), teacher)

    @property
    def _end(self) -> int:
        end = self.tokenizer.eos_token_id
        if end is None:
            raise DataError("the tokenizer has no end-of-text token", hint="use a model whose tokenizer has one")
        return end


def titled(title: str, text: str) -> str:
    return f"{title.strip()}\n{text.strip()}"


def answered(pieces: Sequence[str | QuestionAnswer], objective: Objective) -> Failure | None:
    """Why the pieces can't serve the objective, if so."""
    if objective in ("answers", "distill_on_policy") and not any(isinstance(p, QuestionAnswer) for p in pieces):
        message = f"objective {objective} learns answers, and the edit holds no question with an answer"
        return Failure("no_pairs", f"{message}; style self_qa asks for such")
    return None
