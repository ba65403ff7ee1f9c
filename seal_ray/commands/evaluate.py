"""The table of an evaluation, as text."""

from collections.abc import Mapping
from typing import Any

COSTS = {"edit_tokens": "edit", "written": "written", "taught": "taught", "trained": "trained", "steps": "steps"}


def show(result: Mapping[str, Any]) -> str:
    out = []
    width = max(28, *map(len, result["costs"]))
    for measure, rows in result["tables"].items():
        out.append(f"{measure:<{width - 16}}{'mean':>26}{'±':>9}   against {result['against']} (95 %)")
        for arm, row in rows.items():
            if "missing" in row and "mean" not in row:
                out.append(f"  {arm:<{width}} {row['missing']}")
                continue
            mean, gap = row["mean"], row.get("difference")
            line = f"  {arm:<{width}}{mean['mean']:>9.3f} {mean['error'] or 0:>8.3f}"
            if gap:
                line += f"   {gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
            out.append(line)
    return "\n".join([*out, *_costs(result["costs"], width)])


def _costs(costs: Mapping[str, Any], width: int) -> list[str]:
    """What a candidate of each arm took, on average; failed ones count with what they took."""
    columns = "".join(f"{title:>10}" for title in COSTS.values())
    out = [f"{'tokens, steps and seconds':<{width + 2}}{columns}{'seconds':>10}   a candidate"]
    for arm, cost in costs.items():
        count = cost["candidates"]
        shares = [cost[key] / max(1, count) for key in (*COSTS, "seconds")]
        figures = "".join(f"{share:>10.0f}" for share in shares[:-1]) + f"{shares[-1]:>10.2f}"
        failed = f", {cost['failed']} failed" if cost["failed"] else ""
        out.append(f"  {arm:<{width}}{figures}   of {count}{failed}")
    return out
