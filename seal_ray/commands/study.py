"""The tables of a study and of a stream, as text."""

from collections.abc import Mapping, Sequence
from typing import Any

SHADES = " ░▒▓█"
WIDEST = 16  # columns of a matrix that are shown; between them some are left out
SAID = {
    "base": "before any study",
    "immediate": "right after its own study",
    "retained": "after the last study",
    "kept": "share of what was learned that is left",
    "forgetting": "lost since its best",
    "backward": "change by later studies",
    "forward": "change by earlier studies",
}


def show_study(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "nothing was studied yet"
    out = []
    for name, rows in summary["tables"].items():
        out.append(f"{name:<20}{'mean':>9}{'±':>8}   against none (95 %)")
        for arm, line in rows.items():
            if "mean" not in line:
                out.append(f"  {arm:<26} {line['missing']}")
                continue
            mean, gap = line["mean"], line.get("difference")
            error = f"{mean['error']:.3f}" if mean["error"] is not None else "-"
            text = f"  {arm:<18}{mean['mean']:>9.3f}{error:>8}"
            if gap:
                text += f"   {gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
            out.append(text)
    out.append(f"{'':<20}{'texts':>9}{'steps':>8}{'seconds':>10}  version")
    for arm, own in summary["arms"].items():
        if own["steps"] is not None:
            seconds = f"{own['seconds']:.0f}" if own["seconds"] is not None else "-"
            out.append(
                f"  {arm:<18}{own['texts']:>9}{own['steps']:>8}{seconds:>10}  {own['version']} ({own['decision']})"
            )
    return "\n".join(out)


def show_stream(summary: Mapping[str, Any] | None) -> str:
    if summary is None:
        return "nothing was measured yet"
    out = [f"{summary['sequences']} sequences of {summary['steps']} studies, method {summary['method']}"]
    if summary["done"] < summary["steps"]:
        out[0] += f"; {summary['done']} done so far"
    for measure, own in summary["measures"].items():
        out += [
            "",
            f"{measure}: rows are studies done (0: the base), columns the tasks of each study",
            *_grid(own["matrix"]),
        ]
        out += [_figure(name, own["figures"].get(name)) for name in SAID if own["figures"].get(name)]
    for measure, values in summary["skills"].items():
        if values and values[0] is not None:
            out.append(f"  held-out {measure:<12} {_number(values[0])} before, {_number(_last(values))} after")
    if summary["probe"] and summary["probe"][0] is not None:
        out.append(
            f"  held-out text {'':<7} {summary['probe'][0]:.3f} before, {_number(_last(summary['probe']))} after"
        )
    if (moved := _last(summary["kl"])) is not None:
        out.append(f"  KL from the first {'':<3} {moved:.3f} nats per token, on what that one writes by itself")
    cost = summary["cost"]
    if cost["seconds"] is not None:
        size = f", {cost['bytes'] / 1e6:.1f} MB to keep" if cost["bytes"] else ""
        out.append(f"  cost {'':<16} {cost['seconds']:.1f} s a study{size}")
    return "\n".join(out)


def _grid(matrix: Sequence[Sequence[float | None]]) -> list[str]:
    """Every cell as a number and a shade; of a long stream evenly chosen rows and columns."""
    rows, columns = _chosen(len(matrix)), _chosen(len(matrix[0]))
    known = [v for row in matrix for v in row if v is not None]
    low, high = min(known), max(known)
    lines = [" " * 6 + "".join(f"{c + 1:>8}" for c in columns)]
    for r in rows:
        cells = "".join(_cell(matrix[r][c], low, high) for c in columns)
        lines.append(f"{r:>5} {cells}")
    return lines


def _chosen(count: int) -> list[int]:
    if count <= WIDEST:
        return list(range(count))
    return sorted({round(i * (count - 1) / (WIDEST - 1)) for i in range(WIDEST)})


def _cell(value: float | None, low: float, high: float) -> str:
    if value is None:
        return f"{'-':>8}"
    share = (value - low) / (high - low) if high > low else 0.0
    return f"{value:>7.2f}{SHADES[min(len(SHADES) - 1, int(share * len(SHADES)))]}"


def _figure(name: str, value: Mapping[str, Any]) -> str:
    ends = f" ({value['low']:.3f} to {value['high']:.3f})" if value["low"] is not None else ""
    return f"  {name:<12}{value['mean']:>8.3f}{ends}  {SAID[name]}"


def _last(values: Sequence[float | None]) -> float | None:
    return next((v for v in reversed(values) if v is not None), None)


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
