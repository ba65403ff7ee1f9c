"""Problems with answers that can be computed: edits are solved problems and methods, tried on their siblings."""

from seal_ray.domains.math.domain import Mathematics, build

__all__ = ["Mathematics", "build"]
