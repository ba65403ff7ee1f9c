"""Runs side by side: what was configured otherwise, and how each round of each went."""

from collections.abc import Sequence
from typing import Any

from seal_ray.errors import ConfigError
from seal_ray.grading.retention import FIGURES
from seal_ray.loops import stream
from seal_ray.loops.history import Run, as_written
from seal_ray.observe.arms import TITLES
from seal_ray.records import Json

FORMS = {"accuracy": "{:.1%}", "likelihood": "{:.3f}"}
LONGEST = 40  # characters of a run's name or a setting that are shown


def compare(runs: Sequence[Run]) -> dict[str, Json]:
    """The runs' settings that differ and their tables, as plain data."""
    if len(runs) < 2:
        raise ConfigError("compare wants two runs at least", hint="name another URI")
    return {
        "runs": [
            {"uri": run.uri, "rounds": run.table(), "curve": run.curve(), "stream": stream.summary(run)} for run in runs
        ],
        "differ": differing([_in_effect(run) for run in runs]),
    }


def _in_effect(run: Run) -> dict[str, Any]:
    """The settings that the run goes by: a record lacks what came after its version, and has what nothing reads."""
    try:
        return run.config.model_dump(mode="json")
    except ConfigError:  # of a version whose settings this one does not take: then as it stands
        return run.record["config"]


def differing(configs: Sequence[dict[str, Any]]) -> dict[str, list[Json]]:
    """By dotted key, each run's value, where they are not all the same. Where a run is kept is no difference."""
    flat = [_flat(config) for config in configs]
    keys = sorted(set().union(*flat) - {"run.uri"})
    values = {key: [one.get(key) for one in flat] for key in keys}
    return {key: own for key, own in values.items() if any(value != own[0] for value in own)}


def _flat(tree: dict[str, Any], above: str = "") -> dict[str, Json]:
    leaves: dict[str, Json] = {}
    for key, value in tree.items():
        leaves |= _flat(value, f"{above}{key}.") if isinstance(value, dict) else {f"{above}{key}": value}
    return leaves


def show(compared: dict[str, Any]) -> str:
    with as_written(" and ".join(str(run["uri"]) for run in compared["runs"]), "their rounds"):
        return _shown(compared)


def _shown(compared: dict[str, Any]) -> str:
    runs = compared["runs"]
    names = [f"{n} {_short(run['uri'])}" for n, run in enumerate(runs, 1)]
    width = max(map(len, names))
    lines = ["settings that differ", *_settings(compared["differ"], len(runs))]
    rounds = sorted({row["round"] for run in runs for row in run["rounds"]})
    streams = [run.get("stream") for run in runs]
    if any(streams):
        return "\n".join([*lines, *_streams(names, streams)])
    by_round = [{row["round"]: row for row in run["rounds"]} for run in runs]
    for measure, form in FORMS.items():
        for arm, title in TITLES.items():
            lines += ["", f"{title}, {measure}", " " * width + "".join(f"{f'round {n}':>18}" for n in rounds)]
            for name, rows in zip(names, by_round, strict=True):
                cells = [_cell(rows.get(n), arm, measure, form) for n in rounds]
                lines.append(f"{name:<{width}}" + "".join(f"{cell:>18}" for cell in cells))
    lines += _curves(names, [run["curve"] for run in runs])
    lines += [
        "",
        "±: standard error over tasks; kept edits were chosen by these very trials, so their rows flatter them",
    ]
    return "\n".join(lines)


def _curves(names: Sequence[str], curves: Sequence[Sequence[dict[str, Any]]]) -> list[str]:
    """The learning curves, where a run looked at held-out tasks."""
    columns = sorted({point["after"] for curve in curves for point in curve})
    if not columns:
        return []
    width, lines = max(map(len, names)), list[str]()
    looks = [{point["after"]: point for point in curve} for curve in curves]
    for title, of, form in (
        ("gain of the mean edit", lambda p: p["gain"], "{:+.3f}"),
        ("mean edit, accuracy", lambda p: p["arms"]["edit"].get("accuracy"), "{:.1%}"),
        ("mean edit, likelihood", lambda p: p["arms"]["edit"].get("likelihood"), "{:.3f}"),
    ):
        lines += ["", f"held-out tasks: {title}", " " * width + "".join(f"{f'after {n}':>18}" for n in columns)]
        for name, points in zip(names, looks, strict=True):
            cells = [_estimate(of(points[n]), form) if n in points else "-" for n in columns]
            lines.append(f"{name:<{width}}" + "".join(f"{cell:>18}" for cell in cells))
    return lines


def _streams(names: Sequence[str], streams: Sequence[dict[str, Any] | None]) -> list[str]:
    """What each stream keeps, and at which cost."""
    width, lines = max(map(len, names)), list[str]()
    for measure in ("accuracy", "likelihood"):
        lines += ["", f"streams, {measure}", " " * width + "".join(f"{f:>24}" for f in ("method", *FIGURES, "kept"))]
        for name, one in zip(names, streams, strict=True):
            figures = ((one or {}).get("measures", {}).get(measure) or {}).get("figures") or {}
            cells = [(one or {}).get("method") or "-", *(_interval(figures.get(f)) for f in (*FIGURES, "kept"))]
            lines.append(f"{name:<{width}}" + "".join(f"{cell:>24}" for cell in cells))
    return [*lines, "", "in brackets: 95 % intervals over sequences"]


def _interval(value: dict[str, Any] | None) -> str:
    if not value:
        return "-"
    ends = f" ({value['low']:.3f}, {value['high']:.3f})" if value["low"] is not None else ""
    return f"{value['mean']:.3f}{ends}"


def _settings(differ: dict[str, list[Json]], count: int) -> list[str]:
    if not differ:
        return ["  none: the runs differ by chance alone, or by what ran them"]
    width = max(map(len, differ))
    heads = "".join(f"{n:>{LONGEST // 2}}" for n in range(1, count + 1))
    rows = [
        f"  {key:<{width}}" + "".join(f"{_short(str(v), LONGEST // 2 - 1):>{LONGEST // 2}}" for v in values)
        for key, values in differ.items()
    ]
    return [f"  {'':<{width}}{heads}", *rows]


def _cell(row: dict[str, Any] | None, arm: str, measure: str, form: str) -> str:
    value = ((row or {}).get("arms", {}).get(arm) or {}).get(measure)
    return _estimate(value, form)


def _estimate(value: dict[str, float] | None, form: str) -> str:
    return f"{form.format(value['mean'])} ±{form.replace('+', '').format(value['error'])}" if value else "-"


def _short(text: str, limit: int = LONGEST) -> str:
    return text if len(text) <= limit else "…" + text[1 - limit :]
