"""Another model behind an OpenAI-compatible endpoint that writes in the policy's or the base's place."""

import os

from seal_ray.config import GradingSection
from seal_ray.grading.endpoint import Endpoint

TEACHER_KEY = "SEAL_RAY_TEACHER_KEY"  # environment variable with the teacher's key, where it wants one


def teacher_endpoint(url: str, model: str, section: GradingSection) -> Endpoint:
    """As patient as the judge's is set to be."""
    key = TEACHER_KEY if os.environ.get(TEACHER_KEY) else ""
    return Endpoint(url, model, key, section.judge_parallel, section.judge_timeout, section.judge_retries)
