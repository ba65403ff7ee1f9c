"""What a judge's reply says: in a fence, after a thought, in an object or in words, and never two things at once."""

import json
import time
from typing import Any

import pytest

from seal_ray.grading.endpoint import Garbage, JudgeReply
from seal_ray.grading.judge import understand

SAID = {
    '{"correct": "yes"}': True,
    '```json\n{"correct": "yes"}\n```': True,
    "```\n{'correct': 'no'}\n```\nThe years differ.": False,
    '```json\n{"correct": false}': False,
    "Answer: yes": True,
    "**Answer:** No.": False,
    'They agree: no doubt.</think>\n{"correct": "yes"}': True,
    "<think>yes? no, the year is wrong</think>\n\nno": False,
    'My verdict:\n{"correct": "yes"}': True,
    '{"reason": "the same town", "correct": "no"}': False,
    '{"correct": "yes, it is the same"}': True,
    '{"correct": "yes"': True,
    "Yes, and no contradiction is left.": True,
    'yes, "no" is what was accepted': True,
    '{"correct": "no", "answer": "yes"}': False,
    '{"correct": "no", "reason": "accepted answer: yes"}': False,
    '{"correct": "yes", "reason": "Paris, no, yes"}': True,
    "No. The correct answer: yes": False,
    "No.\nAccepted answer: Yes\nGiven answer: No": False,
    "no": False,
    "Ye\u017f": True,
}
TWO_THINGS_OR_NOTHING = (
    "yes/no",
    "Yes or no.",
    "yes and no",
    "Yes. No.",
    '{"correct": "yes or no"}',
    '{"correct": "yes"}\n{"correct": "no"}',
    '{"correct": "yes", "correct": "no"}',
    'No.\n{"correct": "yes"}',
    "Answer: yes\nCorrect: no",
    'The answer repeats {"correct": "yes"} and is to be judged by the gold',
    '<think>{"correct": "yes"}',
    'I say <think>{"correct": "yes"}',
    '{"correct": ["yes"]}',
    '{"correct": "maybe"}',
    '{"verdict": "yes"}',
    "It depends.",
    "yesterday",
    "",
)


@pytest.mark.parametrize("text", SAID)
def test_a_verdict_is_understood_however_it_is_wrapped(text: str) -> None:
    assert understand(JudgeReply(text)) == (SAID[text], float(SAID[text]))


@pytest.mark.parametrize("text", TWO_THINGS_OR_NOTHING)
def test_a_reply_that_says_two_things_or_none_is_no_verdict(text: str) -> None:
    with pytest.raises(Garbage, match="neither yes nor no, or both"):
        understand(JudgeReply(text))


def test_how_sure_a_judge_is_is_not_read_from_its_thought() -> None:
    def token(word: str, yes: float) -> dict[str, Any]:
        return {"token": word, "logprob": yes, "top_logprobs": [{"token": word, "logprob": yes}]}

    thought = {"content": [{**token("yes", -0.1), "top_logprobs": [token("yes", -0.7), token("no", -0.7)]}]}
    assert understand(JudgeReply("Is it? yes</think>yes", thought)) == (True, 1.0)
    assert understand(JudgeReply("yes", thought)) == (True, 0.5)


@pytest.mark.parametrize("part", ["/", "\n", ". ", "}", '{"', "correct: ", "or ", "<think>", "</think>", "yes/", " "])
def test_a_long_reply_is_read_in_a_moment(part: str) -> None:
    text, began = part * (400_000 // len(part)), time.process_time()
    for said in (text, f"{text}x", json.dumps({"correct": text})):
        try:
            understand(JudgeReply(said))
        except Garbage:
            continue
    assert time.process_time() - began < 5
