"""Tasks with tests: the policy writes solved variations and explanations, and programs are judged by hidden tests."""

from seal_ray.domains.code.domain import Code, build

__all__ = ["Code", "build"]
