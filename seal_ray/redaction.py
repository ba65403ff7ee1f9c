"""Credentials out of whatever is told or recorded: every error, failure, event, log line and setting.

What a model or a data file says is data and is kept as it is; what this program says about its own work is not data.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

from seal_ray.text import printable

if TYPE_CHECKING:
    import logging

HIDDEN = "***"
SHORTEST = 8  # characters of an environment variable's value that can be a secret

# names of environment variables, of a URL's parameters and of settings whose values are nobody's business
_NAMES = (
    r"(?:[\w.-]{0,40}(?:api|access|account|secret|private|subscription|shared)[_-]?key(?:[_-]?id)?|[\w.-]{0,40}passw(?:or)?d|"
    r"[\w.-]{0,40}secret|[\w.-]{0,40}token|[\w.-]{0,40}credentials?|x-amz-signature|signature|sig|auth|authorization|key)"
)
_VARIABLE = re.compile(r"(?:.*_)?(?:KEY|TOKEN|SECRET|PASSWORD|PASSWD|CREDENTIALS?)(?:_ID)?", re.I)
# up to an @; what follows a colon that begins no port may hold a slash, as the keys of S3 do
_USER = re.compile(
    r"([a-z][a-z0-9+.-]{0,20}://)(?!\*\*\*@)"
    r"(?:[^\s/?#@:'\"<>]{0,200}:(?!\d{1,5}/)[^\s@'\"<>]{1,500}|[^\s/?#@'\"<>]{1,500})@",
    re.I,
)
_PARAMETER = re.compile(rf"([?&;]{_NAMES}=)(?!\*\*\*)[^\s&;#'\"<>]+", re.I)
_PAIR = re.compile(
    r"\b((?:AccountKey|SharedAccessKey|SharedAccessSignature|aws_secret_access_key|aws_session_token|x-amz-[\w-]{1,40}|api[_-]?key|"
    r"x-api-key|access[_-]?token|secret[_-]?key|password)[\"']?\s{0,4}[=:]\s{0,4}[\"']?)(?!\*\*\*)[^\s;,&'\"<>]+",
    re.I,
)
_HEADER = re.compile(
    r"\b((?:proxy-)?authorization[\"']?\s{0,4}[:=]\s{0,4}[\"']?(?:[a-z]+ )?+|bearer )(?!\*\*\*)[^\s,;'\"<>]{6,}", re.I
)
_KNOWN = re.compile(r"\b(?:sk-[\w-]{16,}|hf_\w{16,}|gh[pousr]_\w{20,}|xox[abprs]-[\w-]{10,}|AIza[\w-]{30,})")


def redact(text: str) -> str:
    """The text without credentials: those that stand in this process's environment, and what looks like one."""
    return _redact(text, _secrets())


def _redact(text: str, secrets: Sequence[str]) -> str:
    for secret in secrets:
        text = text.replace(secret, HIDDEN)
    if "@" in text:
        text = _USER.sub(rf"\1{HIDDEN}@", text)
    for pattern in (_PARAMETER, _PAIR, _HEADER):
        text = pattern.sub(rf"\1{HIDDEN}", text)
    return _KNOWN.sub(HIDDEN, text)


def redacted(value: Any) -> Any:
    """Plain data with every text in it redacted."""
    return _redacted(value, _secrets())


def _redacted(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, str):
        return _redact(value, secrets)
    if isinstance(value, Mapping):
        return {k: _redacted(v, secrets) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(_redacted(v, secrets) for v in value)
    return value


def credential_in(address: str) -> str:
    """What kind of credential a configured URL holds; nothing where it holds none."""
    if _USER.search(address):
        return "a user or a password"
    if parameter := _PARAMETER.search(address):
        return f"the parameter {parameter[1][1:-1]}"
    if _PAIR.search(address) or _HEADER.search(address) or _KNOWN.search(address):
        return "a key"
    return ""


def logger(name: str) -> "logging.Logger":
    """A module's logger, whose records are redacted, and act on no terminal, before any handler sees them."""
    import logging

    log = logging.getLogger(name)
    log.addFilter(_redact_record)
    return log


def _redact_record(record: "logging.LogRecord") -> bool:
    record.msg, record.args = printable(redact(record.getMessage())), ()
    return True


@lru_cache(4096)
def _is_secret(variable: str) -> bool:
    return _VARIABLE.fullmatch(variable) is not None


def _secrets() -> list[str]:
    """The values of environment variables that hold secrets, the longest first."""
    values = {os.environ.get(k, "").strip() for k in os.environ if _is_secret(k)}
    return sorted((form for v in values if len(v) >= SHORTEST for form in _forms(v)), key=len, reverse=True)


@lru_cache(256)
def _forms(secret: str) -> frozenset[str]:
    """A secret as it is, as a URL holds it, and as a text in quotes does."""
    quoted = (repr(secret)[1:-1], json.dumps(secret)[1:-1])
    return frozenset({secret, quote(secret, safe=""), quote(secret), quote_plus(secret), *quoted})
