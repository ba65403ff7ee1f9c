"""The table of an evaluation, as text."""

from collections.abc import Mapping
from typing import Any


def show(result: Mapping[str, Any]) -> str:
    out = []
    for measure, rows in result["tables"].items():
        out.append(f"{measure:<12}{'mean':>10}{'±':>9}   against {result['against']} (95 %)")
        for arm, row in rows.items():
            if "missing" in row and "mean" not in row:
                out.append(f"  {arm:<28} {row['missing']}")
                continue
            mean, gap = row["mean"], row.get("difference")
            line = f"  {arm:<28}{mean['mean']:>9.3f} {mean['error'] or 0:>8.3f}"
            if gap:
                line += f"   {gap['mean']:+.3f} ({gap['low']:+.3f} to {gap['high']:+.3f})"
            out.append(line)
    return "\n".join(out)
