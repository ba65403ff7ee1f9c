"""How answers become verdicts, and verdicts rewards."""

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from seal_ray.config.section import LONGEST, HttpUrl, Section, Share, _variable


class GradingSection(Section):
    grader: Literal["lexical", "judge", "cascade", "exact"] = Field(
        default="lexical", description="who says whether an answer is right"
    )
    judge_url: HttpUrl = Field(default="", description="OpenAI-compatible endpoint of the judge")
    judge_model: str = Field(default="", description="the judge's model")
    judge_key_env: Annotated[str, AfterValidator(_variable)] = Field(
        default="OPENAI_API_KEY",
        description="environment variable that holds the judge's key; the key itself is never kept",
    )
    judge_parallel: int = Field(default=32, ge=1, le=1024, description="requests at once")
    judge_timeout: float = Field(default=60, gt=0, le=LONGEST, description="seconds for one request")
    judge_retries: int = Field(default=6, ge=0, le=100, description="further attempts after one that may pass")
    judge_price_in: float = Field(default=0, ge=0, description="dollars per million prompt tokens, for the budget")
    judge_price_out: float = Field(default=0, ge=0, description="dollars per million answer tokens, for the budget")
    judge_cache: str = Field(default="", description="folder or URI of verdicts already bought; empty: inside the run")
    cascade_low: float = Field(
        default=0.05, ge=0, le=1, description="with cascade: lexical probability below which an answer is wrong"
    )
    cascade_high: float = Field(
        default=0.95, ge=0, le=1, description="with cascade: lexical probability above which an answer is right"
    )
    reward: Literal["accuracy", "likelihood", "contrast", "blend", "vote", "rubric", "predicted"] = Field(
        default="blend", description="what selection looks at"
    )
    blend: Share = Field(
        default=0.5, description="with blend: the share of what is not accuracy, after both are put on one scale"
    )
    blend_of: Literal["auto", "likelihood", "contrast"] = Field(
        default="auto",
        description="with blend: what accuracy is blended with; auto: the contrast where the domain takes wrong "
        "answers (distractors), else the likelihood",
    )
    contrast: Literal["answer", "token"] = Field(
        default="answer", description="what a contrast is counted by: the log-probability of an answer, or per token"
    )
    vote_rise: Share = Field(
        default=0.25,
        description="with vote: a run stops where agreement of the votes has risen by more than this since its first "
        "round and their entropy has fallen by more than vote_fall; 1: never",
    )
    vote_fall: Share = Field(default=0.25, description="with vote: see vote_rise")
    gain_runs: tuple[str, ...] = Field(
        default=(),
        description="other runs of the same model whose committed rounds the model of gain is fitted on, by URI; for "
        "inner.prune, and for reward: predicted, which tries nothing",
    )

    @model_validator(mode="after")
    def _judge(self) -> "GradingSection":
        if (self.grader in {"judge", "cascade"} or self.reward == "rubric") and not (
            self.judge_url and self.judge_model
        ):
            raise ValueError("a judge needs judge_url and judge_model; or use grader: lexical, which is free and local")
        if self.cascade_low > self.cascade_high:
            raise ValueError(f"cascade_low {self.cascade_low} is above cascade_high {self.cascade_high}")
        return self
