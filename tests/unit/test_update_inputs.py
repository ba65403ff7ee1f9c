"""What an update refuses before it starts anything. Ray is not up in these tests: a refusal must not need it."""

from pathlib import Path

import pytest

from seal_ray import models
from seal_ray.config import ModelSection, PolicySection
from seal_ray.errors import ConfigError, DataError
from seal_ray.policy.lessons import Lesson, LessonText
from seal_ray.policy.update import UpdateJob, update

LESSON = Lesson("e", "t", LessonText((1, 2), (3, 4)))


def refused(tmp_path: Path, *lessons: Lesson, **settings: object) -> None:
    base = models.fetch(ModelSection(name="builtin:tiny"))
    section = PolicySection(**settings)  # type: ignore[arg-type]
    update(UpdateJob(base, lessons, section, 1, str(tmp_path / "out")), sink=lambda event: None)


def test_nothing_to_learn_from(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nothing to learn from"):
        refused(tmp_path)


def test_lessons_of_two_algorithms(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="different algorithms"):
        refused(tmp_path, LESSON, Lesson("f", "t", LESSON.text, algorithm="weighted"))


def test_only_lessons_that_are_too_long(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none of the 1 lessons .*policy.max_length is 16"):
        refused(tmp_path, Lesson("e", "t", LessonText((1,), (2,) * 30)), max_length=16)


def test_tokens_of_another_model(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="token 9999 is not in the vocabulary of 512"):
        refused(tmp_path, Lesson("e", "t", LessonText((1,), (9999,))))


def test_a_fresh_adapter_where_all_weights_are_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"policy.fresh"):
        refused(tmp_path, LESSON, mode="full", fresh=True)


def test_an_output_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(DataError, match="already there"):
        refused(tmp_path, LESSON)
