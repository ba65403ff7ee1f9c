"""What is asked of documents that come without questions."""

from pydantic import Field, model_validator

from seal_ray.config.section import HttpUrl, Section, Share


class ProbeSection(Section):
    """Questions that the frozen base writes about passages, how they are checked, and how they are asked."""

    questions: int = Field(
        default=4,
        ge=0,
        le=100,
        description="questions for a passage, by people or else written; not all of them survive",
    )
    teacher_url: HttpUrl = Field(
        default="",
        description="OpenAI-compatible endpoint of a model that writes the questions in the base's place; it is sent "
        "the passages. Its key, where it wants one, is in SEAL_RAY_TEACHER_KEY",
    )
    teacher_model: str = Field(default="", description="the model there; the base checks what it writes")
    votes: int = Field(default=3, ge=2, le=64, description="answers with the passage at hand; all of them must agree")
    samples: int = Field(default=4, ge=2, le=64, description="answers to each question without the passage")
    temperature: float = Field(default=0.7, gt=0, le=5, description="of votes and of answers without the passage")
    held_out: Share = Field(default=0.3, description="share of the questions that only the final figure rests on")
    teach: bool = Field(
        default=False,
        description="adapt also learns the answers to the questions that are not held out, as all of them are asked",
    )
    sentences: bool = Field(
        default=True,
        description="adapt also learns each sentence of a passage by itself, behind the passage's title",
    )
    known: Share = Field(
        default=0.15, description="a passage whose questions leave less doubt than this is known and needs no training"
    )
    chunk: int = Field(default=64, ge=1, le=4096, description="requests in one call of a sampler")

    @model_validator(mode="after")
    def _teacher(self) -> "ProbeSection":
        if bool(self.teacher_url) != bool(self.teacher_model):
            raise ValueError("teacher_url and teacher_model go together; give both, or neither for the frozen base")
        return self
