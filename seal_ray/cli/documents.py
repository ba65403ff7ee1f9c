"""Own documents: what a model does not know of them, an adapter that does, and asking it."""

import json
import shlex
import signal
import threading
from pathlib import Path
from typing import Annotated, Any

import typer

from seal_ray.cli.arguments import AsJson, EndpointUrl, Quiet, Set, StorageKeys, progress
from seal_ray.cli.exits import exit_code
from seal_ray.cli.opening import target_storage
from seal_ray.cli.output import show
from seal_ray.cli.stop_signals import StopSignals
from seal_ray.errors import ConfigError
from seal_ray.header_keys import key_in
from seal_ray.text import printable

Target = Annotated[
    str, typer.Argument(help="RUN (its current version), RUN#N, or a folder with an adapter", metavar="RUN#N|FOLDER")
]
Device = Annotated[str, typer.Option("--device", help="cpu, gpu, or auto: a GPU where torch sees one")]
BaseModel = Annotated[str, typer.Option("--model", help="the base model, where a folder does not say which it is")]

Trust = Annotated[
    bool, typer.Option("--trust-remote-code", help="run the code that comes with the model which a folder names")
]


def probe(
    source: Annotated[
        str,
        typer.Argument(help="a folder, file, pattern or URI, or a configuration", metavar="DOCS|CONFIG"),
    ],
    to: Annotated[
        Path | None, typer.Option("--to", help="file for the questions, in the form that a run takes as its data")
    ] = None,
    set_: Set = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Write questions about documents, check them, and say what the model does not know."""
    from seal_ray.commands import probe as probing
    from seal_ray.loops import probe as loop

    config = probing.configured(source, [*(set_ or ()), *progress(quiet, as_json)])
    probing.check_target(to)
    with StopSignals(config.storage.stop_within, config.run.uri, source, "probe") as signals:
        tests, known = loop.probe(config, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    if to:
        probing.write(tests, known, to, config.probe.known)
    show(probing.as_data(config, tests, known), probing.show(config, tests, known, to), as_json)


def adapt(
    source: Annotated[
        str, typer.Argument(help="a folder, file, pattern or URI, or a configuration", metavar="DOCS|CONFIG")
    ],
    to: Annotated[Path, typer.Option("--to", help="folder for the adapter and the page of what it knows")],
    policy: Annotated[
        str, typer.Option("--policy", help="RUN#N or RUN: the version that writes and learns; else the base model")
    ] = "",
    set_: Set = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """From documents to an adapter that knows them, with a page of what it learned and what it did not."""
    from seal_ray.commands import adapt as adapting
    from seal_ray.commands import probe as probing
    from seal_ray.loops import adapt as loop

    config = probing.configured(source, [*(set_ or ()), *progress(quiet, as_json)], kind="adapt")
    adapting.check_target(to)
    with StopSignals(
        config.storage.stop_within, config.run.uri, source, f"adapt --to {shlex.quote(str(to))}"
    ) as signals:
        done = loop.adapt(config, policy=policy, stop=lambda: signals.stopped, on_stop=signals.on_stop)
    said = adapting.write(done, config, to)
    show(said, adapting.show(done, config, to), as_json)
    if done.decision == "reject" and config.gate.fail_on_reject:
        raise typer.Exit(exit_code(4))


def serve(
    target: Target,
    host: Annotated[str, typer.Option("--host", help="address to listen on")] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", help="port to listen on", min=1, max=65535)] = 8000,
    device: Device = "auto",
    model: BaseModel = "",
    trust: Trust = False,
    start_within: Annotated[float, typer.Option("--start-within", help="seconds that the start may take")] = 600,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Serve a version through vLLM's OpenAI-compatible server; base and adapters are asked by name."""
    import tempfile

    from seal_ray.commands import serve as serving
    from seal_ray.commands import served

    settings = serving.ServeSettings(host, port, _device(device), start_within)
    serving.check(settings)
    with tempfile.TemporaryDirectory(prefix="seal-ray-") as scratch:
        to_serve = served.find(target, target_storage(target, endpoint, storage), scratch, model, trust=trust)
        stopped = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stopped.set())

        def say(text: str, told: dict[str, Any]) -> None:
            typer.echo(json.dumps(told) if as_json else printable(text))

        serving.serve(to_serve, settings, scratch, say=say, stop=stopped.is_set)


def ask(
    target: Target,
    question: Annotated[str, typer.Argument(help="what to ask")],
    topic: Annotated[str | None, typer.Option("--topic", help="what the question is about; else what it names")] = None,
    server: Annotated[str, typer.Option("--server", help="URL of a server that is up, to ask it instead")] = "",
    max_tokens: Annotated[int, typer.Option("--max-tokens", help="tokens of an answer, at most", min=1)] = 48,
    device: Device = "auto",
    model: BaseModel = "",
    trust: Trust = False,
    endpoint: EndpointUrl = "",
    storage: StorageKeys = None,
    as_json: AsJson = False,
) -> None:
    """Ask one question, closed book: the answers of the base and of the version, side by side."""
    import tempfile

    from seal_ray.commands import ask as asking
    from seal_ray.commands import served
    from seal_ray.commands.serve import KEY

    with tempfile.TemporaryDirectory(prefix="seal-ray-") as scratch:
        to_ask = served.find(target, target_storage(target, endpoint, storage), scratch, model, trust=trust)
        if server:
            said = asking.ask_server(server, key_in(KEY), to_ask, question, topic=topic, max_tokens=max_tokens)
        else:
            said = asking.ask(to_ask, question, topic=topic, max_tokens=max_tokens, device=_device(device))
    show(asking.as_data(said), asking.show(said), as_json)


def _device(name: str) -> str:
    if name not in {"auto", "cpu", "gpu"}:
        raise ConfigError(f"--device {name}: no such device", hint="use auto, cpu or gpu")
    if name != "auto":
        return name
    import torch

    return "gpu" if torch.cuda.is_available() else "cpu"
