"""The first page of help: the commands, grouped by what a person wants."""

from typing import Any

from typer.core import TyperGroup

SENTENCE = 200  # characters of a command's first sentence
WANTS = {
    "start": ("init", "validate", "plan", "doctor", "run", "submit", "evaluate", "study", "stream"),
    "own documents": ("probe", "adapt", "serve", "ask"),
    "look": ("status", "inspect", "report", "compare", "lineage"),
    "decide": ("approve", "reject", "rollback", "regrade"),
    "take away": ("export",),
    "keep": ("verify", "gc", "delete"),
}


class ByWants(TyperGroup):
    """Lists a command under what it is for; one that nobody has placed comes last."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        names = [n for n in self.list_commands(ctx) if not self.commands[n].hidden]
        width = max(map(len, names))
        placed = {n for own in WANTS.values() for n in own}
        for want, own in {**WANTS, "other": tuple(n for n in names if n not in placed)}.items():
            rows = [(n.ljust(width), self.commands[n].get_short_help_str(SENTENCE)) for n in own if n in names]
            if rows:
                with formatter.section(want.capitalize()):
                    formatter.write_dl(rows)
