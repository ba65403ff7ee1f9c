"""A session in which things are tried with other settings: one ledger, crew, budget and stream for all."""

from collections.abc import Sequence

from seal_ray.config import Config
from seal_ray.fleet.crew import Crew
from seal_ray.loops.session import Session
from seal_ray.sandbox import Program, ProgramLimits, ProgramResult
from seal_ray.sandbox.choice import WantedIsolation


class VariedSession(Session):
    """It is open for as long as the session that it varies. Workers, samplers and graders stay as they were started."""

    def __init__(self, varied: Session, config: Config) -> None:
        self.__dict__.update(varied.__dict__)
        self._varied, self.config = varied, config
        self.domain = self._ready_domain()
        self.domain.warn = varied.domain.warn

    @property
    def crew(self) -> Crew:
        return self._varied.crew

    def _run_programs(
        self, programs: Sequence[Program], limits: ProgramLimits, isolation: WantedIsolation
    ) -> Sequence[ProgramResult]:
        return self._varied._run_programs(programs, limits, isolation)
