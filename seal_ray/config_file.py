"""A configuration in a file: reading it with errors that name line and hint, writing one with comments."""

import copy
import difflib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from seal_ray.config import Config, DomainSection, Section
from seal_ray.errors import ConfigError
from seal_ray.text import harmless_json
from seal_ray.yaml_text import Key, YamlProblem, read_yaml

AnySection = TypeVar("AnySection", bound=Section)
DOMAINS: dict[str, type[Section]] = {tag.tag: kind for kind, tag in map(get_args, get_args(get_args(DomainSection)[0]))}
MOST_PROBLEMS = 20  # that are told of one configuration
LONGEST_VALUE = 100  # characters of a value that is shown
QUICKSTART, DOCUMENTS = "builtin:quickstart", "builtin:documents"
BUILTIN = {QUICKSTART: "quickstart", DOCUMENTS: "documents"}  # configurations that the package brings
LIMIT = 1_000_000  # bytes: a configuration is small, whatever else this file may be


def load(path: str | Path, overrides: Sequence[str] = ()) -> Config:
    """The configuration in a YAML file, with overrides like `inner.rank=16` on top."""
    if str(path) in BUILTIN:
        text = (Path(__file__).parent / "demo" / f"{BUILTIN[str(path)]}.yaml").read_text(encoding="utf-8")
        return parse(text, str(path), overrides)
    file = Path(path)
    try:
        if file.stat().st_size > LIMIT:
            raise ConfigError(f"{file} is larger than {LIMIT} bytes: no configuration", hint="give a YAML file")
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise ConfigError(
            f"{file} can't be read: {reason}", hint="`seal-ray init` writes a configuration to start from"
        ) from None
    return parse(text, str(file), overrides)


def parse(text: str, name: str = "configuration", overrides: Sequence[str] = ()) -> Config:
    try:
        tree, numbers = read_yaml(text)
    except YamlProblem as error:
        where = f"{name} line {error.line}" if error.line else name
        raise ConfigError(f"{where} is not YAML that is taken here: {error.problem}") from None
    tree = {} if tree is None else tree
    if not isinstance(tree, dict):
        raise ConfigError(f"{name} holds no sections", hint="`seal-ray init` writes a configuration to start from")
    lines = {key: f"{name} line {number}" for key, number in numbers.items()}
    for override in overrides:
        key, value = _override(override)
        _put(tree, key, value)
        lines[key] = f"--set {override.partition('=')[0] if _names_variable(key) else override}"
    return validated(Config, tree, lines, name)


def assignment(key: str, value: Any) -> str:
    """An override that gives the key this value. YAML knows no pairs of escapes, so characters stand as they are."""
    return f"{key}={harmless_json(json.dumps(value, ensure_ascii=False))}"


RETIRED = {"storage": ("retries",)}  # keys that records of older versions have and nothing reads any more
# what runs did before there was such a key, or when it had another default
BEFORE: dict[tuple[str, str], Any] = {
    ("grading", "blend_of"): "likelihood",
    ("grading", "contrast"): "token",
    ("domain", "distractors"): 0,
}


def resolved(data: dict[str, Any], overrides: Sequence[str] = ()) -> Config:
    """The configuration that a run was made with, as its record has it, with changes if there are any."""
    data = copy.deepcopy(data)
    for section, keys in RETIRED.items():
        for key in keys:
            data.get(section, {}).pop(key, None)
    for (section, key), value in BEFORE.items():
        if section != "domain" or data.get("domain", {}).get("name", "knowledge") == "knowledge":
            data.setdefault(section, {}).setdefault(key, value)
    for override in overrides:
        key, value = _override(override)
        _put(data, key, value)
    return validated(Config, data, {}, "the run's configuration")


def as_begun(config: Config, record: dict[str, Any]) -> Config:
    """The configuration of a run that goes on: keys that it leaves out are what their default was when it began."""
    was, changes = resolved(record), dict[str, dict[str, Any]]()
    for (section, key), before in BEFORE.items():
        now = getattr(config, section)
        if (
            key not in now.model_fields_set
            and hasattr(now, key)
            and getattr(getattr(was, section), key, None) == before
        ):
            changes.setdefault(section, {})[key] = before
    own = {name: getattr(config, name).model_copy(update=values) for name, values in changes.items()}
    return config.model_copy(update=own)


def validated(section: type[AnySection], tree: Mapping[str, Any], lines: Mapping[Key, str], name: str) -> AnySection:
    """The section that plain data describes; `lines` says where each key stands, `name` where the rest does."""
    try:
        return section.model_validate(tree)
    except ValidationError as error:
        problems = error.errors(include_url=False)
        told = [_explain(e, lines, name) for e in problems[:MOST_PROBLEMS]]
        if len(problems) > MOST_PROBLEMS:
            told.append(f"and {len(problems) - MOST_PROBLEMS} more like these")
        raise ConfigError("\n".join(told)) from None


def _override(text: str) -> tuple[Key, Any]:
    name, sep, value = text.partition("=")
    if not sep or not name.strip():
        raise ConfigError(f"--set {name[:LONGEST_VALUE]}: no value", hint="write it as --set inner.rank=16")
    key = tuple(name.strip().split("."))
    try:
        return key, read_yaml(value)[0]
    except YamlProblem:
        return key, value


def _put(tree: dict[str, Any], key: Key, value: Any) -> None:
    for i, part in enumerate(key[:-1]):
        below = tree.setdefault(str(part), {})
        if below is None:
            below = tree[str(part)] = {}
        if not isinstance(below, dict):
            whole = ".".join(map(str, key))
            raise ConfigError(f"--set {whole}: {'.'.join(map(str, key[: i + 1]))} is a value and has no keys")
        tree = below
    tree[str(key[-1])] = value


def _explain(error: ErrorDetails, lines: Mapping[Key, str], name: str) -> str:
    key = _real_key(error["loc"])
    where = next((lines[key[:n]] for n in range(len(key), 0, -1) if key[:n] in lines), name)
    dotted = ".".join(str(k) for k in key) or "configuration"
    kind, value = error["type"], error["input"]
    if kind == "extra_forbidden" and error["loc"][:2] == ("domain", "plugin"):
        hint = "domain.name is none of this package, and another package's domain takes its keys under options"
        return f"{dotted}: no such key ({where}); {hint}"
    if kind == "extra_forbidden":
        names = sorted(_section(error["loc"][:-1]).model_fields)
        close = difflib.get_close_matches(str(key[-1]), names, 1)
        hint = f"did you mean {close[0]}?" if close else f"known here: {', '.join(names)}"
        return f"{dotted}: no such key ({where}); {hint}"
    message = error["msg"].removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if kind == "missing" or isinstance(value, dict | BaseModel) or _names_variable(key):
        return f"{dotted}: {message} ({where})"
    try:
        shown = repr(value)
    except ValueError:  # an integer of more digits than Python writes
        shown = "a number too long to show"
    return f"{dotted}: {shown if len(shown) <= LONGEST_VALUE else shown[:LONGEST_VALUE] + '…'}: {message} ({where})"


def _names_variable(key: Key) -> bool:
    """Whether the key takes the name of a variable with a secret: what is given may be the secret, and isn't shown."""
    return str(key[-1]).endswith("_env") if key else False


def _real_key(loc: tuple[str | int, ...]) -> Key:
    """Where pydantic points, without the tag that it puts in after a section with several forms."""
    if len(loc) > 1 and loc[0] == "domain" and loc[1] in DOMAINS:
        return (loc[0], *loc[2:])
    return loc


def _section(loc: Key) -> type[Section]:
    """The section that pydantic means, tag and all."""
    section: type[Section] = Config
    for part in loc:
        if part == "domain":
            continue
        if section is Config and part in DOMAINS:
            section = DOMAINS[str(part)]
            continue
        annotation = section.model_fields[str(part)].annotation
        assert isinstance(annotation, type) and issubclass(annotation, Section)
        section = annotation
    return section


def template() -> str:
    """A configuration with every field at its default, and what it means."""
    out = ["# Every field with its default. Delete what you do not change.", ""]
    for name, section in Config().__iter__():
        out += _section_lines(name, section, 0)
        out.append("")
    return "\n".join(out).rstrip() + "\n"


def _section_lines(name: str, section: Section, depth: int) -> list[str]:
    pad = "  " * depth
    out = [f"{pad}{name}:"]
    for key, info in type(section).model_fields.items():
        value = getattr(section, key)
        if isinstance(value, Section):
            out += _section_lines(key, value, depth + 1)
            continue
        text = yaml.safe_dump(_plain(value), default_flow_style=True, width=1000).removesuffix("...\n").strip()
        out.append(f"{pad}  {key}: {text}  # {info.description or 'which domain'}")
    return out


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value
