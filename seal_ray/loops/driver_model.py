"""The run's model as far as its driver has to know it: what it is called by content, and how it is spoken to."""

from dataclasses import dataclass
from typing import Any

from seal_ray import models
from seal_ray.config import Config, ModelSection
from seal_ray.fleet import cluster


@dataclass(frozen=True)
class DriverModel:
    folder: str  # configuration and tokenizer; the weights where the driver's machine computes
    digest: str  # of all its files
    section: ModelSection  # of a hub's branch, at the commit that was read
    tokenizer: Any
    chat: bool  # whether prompts go through its chat template


def read_model(config: Config, section: ModelSection) -> DriverModel:
    """The run's model. Beside those who compute it is one fetch for all, here, where it can be watched."""
    look = models.describe if cluster.is_elsewhere(config.placement) else models.whole
    described = look(section, config.storage)
    tokenizer = models.tokenizer(
        described.folder, trust_remote_code=section.trust_remote_code, thinking=section.thinking
    )
    chat = section.chat == "yes" or (section.chat == "auto" and models.has_chat_template(described.folder))
    return DriverModel(described.folder, described.digest, described.section, tokenizer, chat)
