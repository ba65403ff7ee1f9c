"""A session in which things are tried with other settings: one ledger, crew, budget and stream for all."""

from seal_ray.config import Config
from seal_ray.domains import configured
from seal_ray.fleet.crew import Crew
from seal_ray.loops.session import Session


class VariedSession(Session):
    """It is open for as long as the session that it varies. Workers, samplers and graders stay as they were started."""

    def __init__(self, varied: Session, config: Config) -> None:
        self.__dict__.update(varied.__dict__)
        self._varied, self.config = varied, config
        self.domain = configured(config, varied.chat)
        self.domain.warn = varied.domain.warn

    @property
    def crew(self) -> Crew:
        return self._varied.crew
