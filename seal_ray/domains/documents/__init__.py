"""Own documents: a folder becomes passages to learn, with or without questions about them."""

from seal_ray.domains.documents.domain import Documents, build

__all__ = ["Documents", "build"]
