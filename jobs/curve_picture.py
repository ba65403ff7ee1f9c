"""Learning curves as an SVG file that a page can show as it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

COLOURS = ("#1f6fb2", "#8a8f98", "#2a8f5a", "#b8722c", "#7d4fb0", "#b03a4e")
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 440, 280, 48, 12, 34, 62


@dataclass(frozen=True)
class Panel:
    """Curves over rounds by arm, one for each seed; as shares, 0 to 1."""

    title: str
    arms: Mapping[str, Sequence[Sequence[float]]]


def picture(panels: Sequence[Panel]) -> str:
    """The panels side by side: a thin line for each run, a thick one for the mean of an arm."""
    width = WIDTH * max(1, len(panels))
    parts = [_panel(panel, n * WIDTH) for n, panel in enumerate(panels)]
    style = "text{font:12px sans-serif;fill:#444}.t{font-weight:600;fill:#222}.g{stroke:#ddd}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'role="img"><style>{style}</style><rect width="{width}" height="{HEIGHT}" fill="#fff"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _panel(panel: Panel, at: int) -> str:
    curves = [c for own in panel.arms.values() for c in own if c]
    rounds = max(map(len, curves), default=1)
    high = max((v for c in curves for v in c), default=1.0) * 1.1 or 1.0

    def x(n: float) -> float:
        return at + LEFT + n * (WIDTH - LEFT - RIGHT) / max(1, rounds - 1)

    def y(v: float) -> float:
        return HEIGHT - BOTTOM - v / high * (HEIGHT - TOP - BOTTOM)

    parts = [f'<text class="t" x="{at + LEFT}" y="20">{escape(panel.title)}</text>']
    step = next(s for s in (0.02, 0.05, 0.1, 0.2, 0.5, 1) if high / s <= 6)
    for k in range(int(high / step) + 1):
        v = k * step
        parts.append(f'<line class="g" x1="{x(0):.1f}" x2="{x(rounds - 1):.1f}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
        parts.append(f'<text x="{x(0) - 6:.1f}" y="{y(v) + 4:.1f}" text-anchor="end">{100 * v:.0f}%</text>')
    base = HEIGHT - BOTTOM + 18
    parts += [f'<text x="{x(n):.1f}" y="{base}" text-anchor="middle">{n}</text>' for n in range(rounds)]
    parts.append(f'<text x="{x((rounds - 1) / 2):.1f}" y="{HEIGHT - BOTTOM + 34}" text-anchor="middle">rounds</text>')
    for n, (arm, own) in enumerate(panel.arms.items()):
        colour = COLOURS[n % len(COLOURS)]
        whole = [c for c in own if len(c) == rounds]
        lines = [(c, 1.0, 0.4) for c in own if c]
        if whole:
            lines.append(([sum(v) / len(v) for v in zip(*whole, strict=True)], 3.0, 1.0))
        for curve, thick, strong in lines:
            points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(curve))
            parts.append(
                f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{thick:g}" '
                f'opacity="{strong:g}"/>'
            )
        key = at + LEFT + n * 64
        parts.append(f'<rect x="{key}" y="{HEIGHT - 18}" width="10" height="10" fill="{colour}"/>')
        parts.append(f'<text x="{key + 14}" y="{HEIGHT - 9}">{escape(arm)}</text>')
    return "\n".join(parts)
