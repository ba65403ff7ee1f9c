"""The command line. Each command reads its arguments, calls the room that does the work, and shows the result.

The commands stand in files by what a person wants of them; what they do is in `seal_ray/commands` and the loops, which
are imported when a command is called, so that help and mistakes are answered at once.
"""

import atexit
import gc
import io
import os
import select
import sys
from collections.abc import Callable
from typing import Annotated, Any, NoReturn

import typer

from seal_ray import __version__
from seal_ray.cli import decide, documents, keep, look, prepare, start, take_away
from seal_ray.cli.exits import fail
from seal_ray.cli.help import ByWants
from seal_ray.cli.quiet import hush
from seal_ray.errors import Interrupted, SealError

# pydantic would look through every installed package for plugins, at each start
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

# by what a person wants, in the order of the first page of help
COMMANDS: dict[str, tuple[Callable[..., Any], ...]] = {
    "start": (
        *(prepare.init, prepare.validate, prepare.plan, prepare.doctor),
        *(start.run, start.submit, start.evaluate, start.study, start.stream),
    ),
    "own documents": (documents.probe, documents.adapt, documents.serve, documents.ask),
    "look": (look.status, look.inspect, look.report, look.compare, look.lineage),
    "decide": (decide.approve, decide.reject, decide.rollback, decide.regrade),
    "take away": (take_away.export,),
    "keep": (keep.verify, keep.gc, keep.delete),
}

GARBAGE = 100_000  # objects that are made before garbage is looked for


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"seal-ray {__version__}")
        raise typer.Exit


def options(
    debug: Annotated[
        bool, typer.Option("--debug", help="show tracebacks, and what libraries say", envvar="SEAL_RAY_DEBUG")
    ] = False,
    _shown: Annotated[
        bool, typer.Option("--version", help="print the version", callback=_version, is_eager=True)
    ] = False,
) -> None:
    if debug:
        os.environ["SEAL_RAY_DEBUG"] = "1"
    else:
        hush()


def application(*names: str) -> typer.Typer:
    """The commands of these names, or all: typer builds each that it has before it reads a word, and one may do."""
    made = typer.Typer(
        name="seal-ray",
        help="Self-adapting language models on a Ray cluster: rounds of sample, try, grade, select, update, gate.",
        no_args_is_help=True,
        cls=ByWants,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    made.callback()(options)
    every = [(want, command) for want, commands in COMMANDS.items() for command in commands]
    for want, command in [(w, c) for w, c in every if c.__name__ in names] or every:
        made.command(rich_help_panel=want)(command)
    return made


app = application()


def main() -> None:
    """The entry point: one readable message and an exit code for whatever goes wrong."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a name that the terminal can't show is no failure
    # what is imported and built at the start stays: to look through it time and again, and once more at the end, takes
    # a fifth of a short command's time
    gc.set_threshold(GARBAGE)
    atexit.register(gc.freeze)
    try:
        words = sys.argv[1:] or ["--help"]
        called = application(words[0])
        sys.exit(called(words, standalone_mode=False, prog_name="seal-ray"))  # the code of a `typer.Exit`; else None
    except SealError as error:
        fail(str(error), error.exit_code)
    except (KeyboardInterrupt, typer.Abort):
        fail("interrupted", Interrupted.exit_code)
    except SystemExit as left:
        if isinstance(left.__context__, BrokenPipeError):  # typer leaves with 1, whichever pipe it was
            _leave_broken_pipe(left.__context__)
        raise
    except Exception as error:
        if hasattr(error, "exit_code") and hasattr(error, "format_message"):  # a usage error of the command line
            fail(error.format_message(), 2)  # pyright: ignore
        _fail_unforeseen(error)


def _leave_broken_pipe(error: BrokenPipeError) -> NoReturn:
    """Whoever read what is printed may have seen enough, as `head` does; any other pipe is one of our own."""
    reader = select.poll()
    reader.register(1, 0)  # an error is told without being asked for
    if reader.poll(0):
        sys.exit(0)
    _fail_unforeseen(error)


def _fail_unforeseen(error: Exception) -> NoReturn:
    fail(f"{type(error).__name__}: {error}; this was not foreseen: --debug shows where it came from", 3)
