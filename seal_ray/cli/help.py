"""The first page of help: the commands, grouped by what a person wants."""

from typing import Any

from typer.core import TyperGroup

SENTENCE = 200  # characters of a command's first sentence


class ByWants(TyperGroup):
    """Lists the commands under what each was registered for."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        wants: dict[str, list[Any]] = {}
        for name in self.list_commands(ctx):
            command: Any = self.commands[name]
            wants.setdefault(command.rich_help_panel, []).append(command)
        width = max(map(len, self.commands))
        for want, commands in wants.items():
            with formatter.section(want.capitalize()):
                formatter.write_dl([(c.name.ljust(width), c.get_short_help_str(SENTENCE)) for c in commands])
