"""The arguments and options that several commands take, each described once."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[Path, typer.Argument(help="configuration in YAML", metavar="CONFIG")]
Uri = Annotated[str, typer.Argument(help="where the run is kept", metavar="URI")]
Set = Annotated[list[str] | None, typer.Option("--set", help="override a key, like inner.rank=16; may be given again")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="show only the final table")]
AsJson = Annotated[bool, typer.Option("--json", help="print JSON")]
EndpointUrl = Annotated[str, typer.Option("--endpoint", help="URL of an S3 look-alike", envvar="SEAL_RAY_S3_ENDPOINT")]
StorageKeys = Annotated[
    list[str] | None,
    typer.Option(
        "--storage",
        help="a key of the storage section that the run's record can't tell, like profile=NAME; again for more",
    ),
]


def progress(quiet: bool, as_json: bool) -> list[str]:
    """How a command that runs shows what it does: an override of the configuration, where these options say."""
    return [f"observe.progress={'json' if as_json else 'quiet'}"] if quiet or as_json else []
