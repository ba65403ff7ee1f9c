"""How learning is watched on tasks that no round sees."""

from pydantic import Field

from seal_ray.config.section import Section


class EvaluationSection(Section):
    """The learning curve: how the current version's edits do on held-out tasks, those of `domain.test`."""

    every: int = Field(default=0, ge=0, description="rounds between two looks at held-out tasks; 0: never")
    tasks: int = Field(default=20, ge=2, description="held-out tasks, the same ones every time")
    edits: int = Field(default=2, ge=1, description="edits per held-out task")
    repeats: int = Field(default=1, ge=1, description="training seeds for each of these edits")
