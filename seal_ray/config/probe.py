"""What is asked of documents that come without questions."""

from pydantic import Field

from seal_ray.config.section import Section, Share


class ProbeSection(Section):
    """Questions that the frozen base writes about passages, how they are checked, and how they are asked."""

    questions: int = Field(
        default=4,
        ge=0,
        le=100,
        description="questions for a passage, by people or else written; not all of them survive",
    )
    votes: int = Field(default=3, ge=2, le=64, description="answers with the passage at hand; all of them must agree")
    samples: int = Field(default=4, ge=2, le=64, description="answers to each question without the passage")
    temperature: float = Field(default=0.7, gt=0, le=5, description="of votes and of answers without the passage")
    held_out: Share = Field(default=0.3, description="share of the questions that only the final figure rests on")
    known: Share = Field(
        default=0.15, description="a passage whose questions leave less doubt than this is known and needs no training"
    )
    chunk: int = Field(default=64, ge=1, le=4096, description="requests in one call of a sampler")
