"""Where a run may be: URIs and the paths below them, checked before anything is written."""

import os
import re

from seal_ray.errors import ConfigError, StorageError
from seal_ray.redaction import redact
from seal_ray.storage.remote_files import known_protocols

# what has objects that can be created, listed and deleted; whether create-only writes are honoured is found by trying
KEEPERS = {
    "file",
    "local",
    "memory",
    "s3",
    "gs",
    "gcs",
    "az",
    "abfs",
    "abfss",
    "adl",
    "oci",
    "oss",
    "hdfs",
    "sftp",
    "smb",
}


def check_uri(uri: str) -> str:
    """The URI without a slash at its end; a typo is found here and not in the bucket of somebody else."""
    shown = redact(uri)
    if not uri.strip() or uri != uri.strip() or "\n" in uri:
        raise ConfigError(f"run.uri: {shown!r} is no place", hint="a folder, or s3://bucket/path")
    protocol, separator, rest = uri.partition("://")
    if not separator:
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]*:/?[^/]", uri):
            raise ConfigError(f"run.uri: {shown} looks like a URI but has no ://", hint="write s3://bucket/path")
        return uri.rstrip("/") or "/"
    if protocol == "s3a":
        protocol = "s3"
    if protocol not in known_protocols():
        raise ConfigError(
            f"run.uri: {shown}: nothing here reads {protocol}://", hint="s3://, gs://, file:// or a folder"
        )
    if protocol not in ("memory", "file", "local") and not rest.split("/")[0]:
        raise ConfigError(f"run.uri: {shown} names no bucket", hint=f"write {protocol}://bucket/path")
    if "@" in rest.split("/")[0] and ":" in rest.split("@")[0]:
        raise ConfigError(f"run.uri: {shown} holds a password", hint="give credentials by environment, profile or role")
    return f"{protocol}://{rest.rstrip('/') or '/'}"


def check_run_uri(uri: str) -> str:
    """The same, where a run is to be kept: objects must be created there, which an archive or a mirror can't."""
    checked = check_uri(uri)
    protocol = checked.partition("://")[0] if "://" in checked else ""
    if protocol and protocol not in KEEPERS:
        raise ConfigError(
            f"run.uri: {redact(uri)}: no run can be kept under {protocol}://",
            hint="a folder, s3://bucket/path or gs://…",
        )
    return checked


def check_path(path: str, *, may_be_empty: bool = False) -> None:
    """A path stays below its root."""
    if (path and all(step not in ("", ".", "..") for step in path.split("/"))) or (may_be_empty and not path):
        return
    raise StorageError(f"{path!r} is not a path below a root")


def is_local(uri: str) -> bool:
    """Whether other machines see something else there, or nothing."""
    return "://" not in uri or uri.partition("://")[0] in ("file", "local")


def from_anywhere(uri: str) -> str:
    """The same place, whichever folder a later command is given in."""
    return uri if "://" in uri else os.path.abspath(os.path.expanduser(uri))
