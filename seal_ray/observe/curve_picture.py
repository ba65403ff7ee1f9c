"""Learning curves as an SVG drawing that a page can show as it is."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#1f6fb2", "#8a8f98", "#2a8f5a", "#b8722c", "#7d4fb0", "#b03a4e")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 280, 48, 12, 34, 62
Place = Callable[[float], float]
STYLE = "text{font:12px sans-serif;fill:#444}.t{font-weight:600;fill:#222}.g{stroke:#ddd}"


@dataclass(frozen=True)
class Panel:
    """Curves, several for each name, each as its values by round."""

    title: str
    curves: Mapping[str, Sequence[Mapping[int, float]]]
    shares: bool = True  # values from 0 to 1, shown in per cent and from 0 on


def picture(panels: Sequence[Panel]) -> str:
    """The panels side by side: a thin line for each curve, a thick one for the mean of a name's."""
    width = WIDTH * max(1, len(panels))
    size = f'viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}"'
    drawn = "\n".join(_panel(panel, n * WIDTH) for n, panel in enumerate(panels))
    ground = f'<rect width="{width}" height="{HEIGHT}" fill="#fff"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{STYLE}</style>{ground}\n{drawn}\n</svg>\n'
    )


def _panel(panel: Panel, at: int) -> str:
    curves = [c for own in panel.curves.values() for c in own if c]
    values = [v for c in curves for v in c.values()]
    rounds = sorted({n for c in curves for n in c})
    last = max(rounds, default=0)
    low, high = (0.0 if panel.shares else min(values, default=0.0)), max(values, default=1.0)
    high = high + 0.1 * (high - low or 1)

    def x(n: float) -> float:
        return at + LEFT + n * (WIDTH - LEFT - RIGHT) / max(1, last)

    def y(v: float) -> float:
        return HEIGHT - BOTTOM - (v - low) / (high - low) * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text class="t" x="{at + LEFT}" y="20">{escape(panel.title)}</text>']
    for v in _ticks(low, high):
        parts.append(f'<line class="g" x1="{x(0):.1f}" x2="{x(last):.1f}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
        label = f"{100 * v:.0f}%" if panel.shares else f"{v:.2f}"
        parts.append(f'<text x="{x(0) - 6:.1f}" y="{y(v) + 4:.1f}" text-anchor="end">{label}</text>')
    base = HEIGHT - BOTTOM + 18
    parts += [f'<text x="{x(n):.1f}" y="{base}" text-anchor="middle">{n}</text>' for n in rounds]
    parts.append(f'<text x="{x(last / 2):.1f}" y="{base + 16}" text-anchor="middle">rounds</text>')
    for n, (name, own) in enumerate(panel.curves.items()):
        colour, key = COLOURS[n % len(COLOURS)], at + LEFT + n * 64
        parts += [_line(curve, x, y, colour, thick, strong) for curve, thick, strong in _lines(own, last)]
        parts.append(f'<rect x="{key}" y="{HEIGHT - 18}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{key + 14}" y="{HEIGHT - 9}">{escape(name)}</text>')
    return "\n".join(parts)


def _lines(own: Sequence[Mapping[int, float]], last: int) -> list[tuple[Mapping[int, float], float, float]]:
    """What is drawn for one name, with its width and opacity."""
    whole = [c for c in own if last in c]
    lines: list[tuple[Mapping[int, float], float, float]] = [(c, 1.0, 0.4) for c in own if c]
    if whole:
        shared = sorted(set(whole[0]).intersection(*whole))
        lines.append(({n: sum(c[n] for c in whole) / len(whole) for n in shared}, 3.0, 1.0))
    return lines


def _line(curve: Mapping[int, float], x: Place, y: Place, colour: str, thick: float, strong: float) -> str:
    points = " ".join(f"{x(n):.1f},{y(v):.1f}" for n, v in curve.items())
    if len(curve) == 1:  # of which a line shows nothing
        ((n, v),) = curve.items()
        return f'<circle cx="{x(n):.1f}" cy="{y(v):.1f}" r="{2 + thick:g}" fill="{colour}" opacity="{strong:g}"/>'
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{thick:g}" opacity="{strong:g}"/>'


def _ticks(low: float, high: float) -> list[float]:
    """Round numbers between two values, six at most."""
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]
