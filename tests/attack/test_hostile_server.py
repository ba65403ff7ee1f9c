"""A server that is not what `serve` started, and a folder that is not what `adapt` left: words, and no key leaves."""

import asyncio
import importlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from adapters import write_adapter
from free_ports import free_port

from seal_ray import models
from seal_ray.commands import ask, serve
from seal_ray.commands.served import NOTE, Served, find
from seal_ray.config import ModelSection, StorageSection
from seal_ray.errors import ConfigError, InfraError, SealError
from seal_ray.header_keys import key_in
from seal_ray.sampling import guard

SECTION = ModelSection(name="builtin:tiny", dtype="float32")
KEY = "open-sesame-0123456789"
GOOD_MODELS = json.dumps({"data": [{"id": "base"}, {"id": "version-1"}]}).encode()


@contextmanager
def serving(replies: dict[str, bytes], status: int = 200, headers: dict[str, str] | None = None) -> Iterator[str]:
    """Replies by path, with this status and these headers."""

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            data = replies.get(self.path, b"")
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(data))} | (headers or {})).items():
                self.send_header(name, value)
            self.end_headers()
            try:
                self.wfile.write(data)
            except OSError:
                self.close_connection = True

        do_GET = do_POST = answer

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@pytest.fixture(autouse=True)
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serve.KEY, KEY)  # where commands find it


@pytest.fixture(scope="module")
def served() -> Served:
    return Served(models.fetch(SECTION), SECTION, {})


REPLIES = [
    b"", b"null", b"[]", b"{}", b"<html>", b"[" * 100_000, b'{"data": 1}', b'{"data": []}', b'{"data": [1, null]}',
    b'{"data": [{"id": 3}]}', b'{"data": [{"id": null}]}', b'{"data": {"id": "x"}}', b"9" * 5000, b"x" * (2 << 20),
    json.dumps({"data": [{"id": f"m{n}"} for n in range(10_000)]}).encode(), b"\x1f\x8b" + bytes(100), b"NaN",
]  # fmt: skip
ANSWERS = [
    b"", b"null", b"[]", b'{"choices": []}', b'{"choices": {}}', b'{"choices": [null]}',
    b'{"choices": [{"text": null}]}',
    b'{"choices": [{"text": ["a"]}]}', b'{"choices": [{"text": 1e999}]}', b"{" * 100_000, b'"text"', b"x" * (2 << 20),
]  # fmt: skip


def refused(url: str, served: Served) -> str:
    with pytest.raises(InfraError) as caught:
        ask.ask_server(url, KEY, served, "Who?")
    assert KEY not in str(caught.value) and len(str(caught.value)) < 2000
    return str(caught.value)


@pytest.mark.parametrize("number", range(len(REPLIES)))
def test_a_list_of_models_that_is_none_is_said_to_be_strange(number: int, served: Served) -> None:
    with serving({"/v1/models": REPLIES[number]}) as url:
        refused(url, served)


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_an_answer_that_is_none_is_said_to_be_strange(number: int, served: Served) -> None:
    with serving({"/v1/models": GOOD_MODELS, "/v1/completions": ANSWERS[number]}) as url:
        refused(url, served)


def test_whatever_a_server_answers_with_it_is_told_without_the_key(served: Served) -> None:
    for status in (301, 307, 400, 401, 403, 429, 500, 599):
        with serving({"/v1/models": KEY.encode() * 3}, status, {"Location": f"http://127.0.0.1:9/{KEY}"}) as url:
            assert str(status) in refused(url, served).replace("***", "")
    with serving({"/v1/models": GOOD_MODELS}, 200, {"Content-Encoding": "gzip"}) as url:
        refused(url, served)
    refused("http://127.0.0.1:9/v1", served)


def test_an_answer_of_control_characters_and_halves_is_kept_as_text(served: Served) -> None:
    said = json.dumps({"choices": [{"text": "\x1b]0;x\x07 half \ud800\n"}]}).encode()
    with serving({"/v1/models": GOOD_MODELS, "/v1/completions": said}) as url:
        found = ask.ask_server(url, "", served, "Who?")
    assert set(found.answers) == {"base", "version-1"}
    ask.show(found).encode()
    json.dumps(ask.as_data(found)).encode()


@pytest.mark.parametrize(
    "url", ["", "nowhere", "http://", "http://[::1", "ftp://h/v1", "//h", "http://h:99999999", "\x00"]
)
def test_an_address_that_is_none_is_refused(url: str, served: Served) -> None:
    with pytest.raises(SealError) as caught:
        ask.ask_server(url, KEY, served, "Who?")
    assert caught.value.exit_code in {2, 3} and KEY not in str(caught.value)


# the key


@pytest.mark.parametrize("end", ["\n", "\r\n", " ", "\t\n"])
def test_the_line_end_of_a_mounted_token_is_no_part_of_it(end: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serve.KEY, KEY + end)
    assert key_in(serve.KEY) == KEY
    serve.check(serve.ServeSettings(host="0.0.0.0", port=free_port()))


@pytest.mark.parametrize("key", ["open\nsesame", "sésame", "open\x07", "\u200b"])
def test_a_token_that_no_header_takes_is_refused_without_being_shown(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(serve.KEY, key)
    with pytest.raises(ConfigError, match=serve.KEY) as caught, serve.running(None, serve.ServeSettings()):  # type: ignore[arg-type]
        pass
    assert key not in str(caught.value) and "sesame" not in str(caught.value)


def test_the_token_goes_to_this_machine_and_through_no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []
    monkeypatch.setattr(serve.Server, "check", lambda self: asked.append("looked"))
    with serving({"/health": b"", "/v1/completions": b"{}"}) as url, serving({}, 502) as proxy:
        monkeypatch.setenv("HTTP_PROXY", proxy.removesuffix("/v1"))
        settings = serve.ServeSettings(port=int(url.split(":")[2].split("/")[0]))
        server = serve.Server(None, tmp_path / "log", settings, KEY, [1, 2, 3])  # type: ignore[arg-type]
        with pytest.raises(InfraError, match="no log-probabilities"):  # it was reached, and says nothing of use
            server.wait(30, lambda: False)


def test_a_question_goes_through_no_proxy(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = json.dumps({"choices": [{"text": "Odo Marsh"}]}).encode()
    with serving({"/v1/models": GOOD_MODELS, "/v1/completions": answer}) as url, serving({}, 502) as proxy:
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, proxy.removesuffix("/v1"))
        assert ask.ask_server(url, KEY, served, "Who?").answers == {"base": "Odo Marsh", "version-1": "Odo Marsh"}


# whoever reaches `serve`


def knocked(monkeypatch: pytest.MonkeyPatch, path: str, token: str, **headers: str) -> int:
    """The status of a request that comes to the server's guard, which has this token."""
    monkeypatch.setenv("VLLM_API_KEY", token)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask() -> int:
        transport = httpx.ASGITransport(guard.Guard(app))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
            return (await client.post(path, headers=headers)).status_code

    return asyncio.run(ask())


ADDRESSES = ["/v1/completions", "/invocations", "/adapters", "/tokenize", "/metrics", "/", "//v1/models", "/healthy"]


@pytest.mark.parametrize("path", ADDRESSES)
def test_no_address_of_the_server_is_open_to_those_without_its_token(
    path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for said in (
        "",
        "Bearer",
        "Bearer ",
        f"Basic {KEY}",
        f"Bearer {KEY}x",
        f"Bearer {KEY[:-1]}",
        KEY,
        f"Bearer  {KEY}",
    ):
        assert knocked(monkeypatch, path, KEY, Authorization=said) == 401, said
    assert knocked(monkeypatch, path, KEY) == 401
    assert knocked(monkeypatch, path, KEY, Authorization=f"Bearer {KEY}") == 200
    assert knocked(monkeypatch, "/health", KEY) == 200


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8000", "10.1.2.3", "[::2]:8000", "localhost.evil", ""])
def test_a_page_that_calls_this_machine_by_a_name_of_its_own_is_not_answered(
    host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert knocked(monkeypatch, "/v1/completions", "", Host=host) == 403
    assert knocked(monkeypatch, "/v1/completions", KEY, Host=host, Authorization=f"Bearer {KEY}") == 200
    for own in ("localhost", "localhost:8000", "127.0.0.1:8000", "[::1]:8000", "LOCALHOST"):
        assert knocked(monkeypatch, "/v1/completions", "", Host=own) == 200


def test_the_server_is_started_behind_its_guard(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    served = Served(models.fetch(SECTION), SECTION, {})
    command = serve._command(served, serve.ServeSettings())
    room, _, name = command[command.index("--middleware") + 1].rpartition(".")
    assert getattr(importlib.import_module(room), name) is guard.Guard


# an adapter's folder from somebody else

NOTES: list[Any] = [
    [], None, 3, "x", {"model": []}, {"model": "x"}, {"model": {"name": 3}}, {"model": {"nmae": "x"}},
    {"model": {"name": "builtin:tiny", "max_length": 1e999}}, {"model": {"name": "/etc/passwd"}},
    {"model": {"name": "https://me:secret@host/m"}}, {"model": {"name": "\ud800"}},
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(NOTES)))
def test_a_note_that_lies_is_refused(number: int, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "mine", 1)
    (tmp_path / "mine" / NOTE).write_text(json.dumps(NOTES[number]))
    with pytest.raises(SealError) as caught:
        find(folder, StorageSection(), str(tmp_path))
    assert caught.value.exit_code == 2 and "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["[" * 100_000, "", "\xff", '{"model": ' * 50_000])
def test_a_note_that_is_no_json_is_refused(text: str, tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "mine", 1)
    (tmp_path / "mine" / NOTE).write_bytes(text.encode("latin1"))
    with pytest.raises(SealError, match=NOTE):
        find(folder, StorageSection(), str(tmp_path))


def test_topics_that_are_none_are_passed_over(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "mine", 1)
    for topics in (None, 3, "Odo Marsh", {"a": 1}, [1, None, ["x"]]):
        (tmp_path / "mine" / NOTE).write_text(json.dumps({"model": {"name": "builtin:tiny"}, "topics": topics}))
        assert find(folder, StorageSection(), str(tmp_path)).topics == ()


def test_a_folder_does_not_decide_that_a_models_code_is_run(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "mine", 1)
    model = {"name": "builtin:tiny", "trust_remote_code": True}
    (tmp_path / "mine" / NOTE).write_text(json.dumps({"model": model}))
    for name in ("", "builtin:tiny"):
        with pytest.raises(ConfigError, match="--trust-remote-code"):
            find(folder, StorageSection(), str(tmp_path), name)
    assert find(folder, StorageSection(), str(tmp_path), trust=True).model.trust_remote_code


def test_a_folder_does_not_decide_where_its_model_comes_from_and_is_kept(tmp_path: Path) -> None:
    folder = write_adapter(tmp_path / "mine", 1)
    model = {"name": "builtin:tiny", "dtype": "float32", "max_length": 512, "thinking": "no"}
    of_the_machine = {"mirror": "https://evil.example", "cache": str(tmp_path / "cache"), "cache_gb": 1e-9}
    (tmp_path / "mine" / NOTE).write_text(json.dumps({"model": model | of_the_machine}))
    assert find(folder, StorageSection(), str(tmp_path)).model == ModelSection.model_validate(model)
    assert not (tmp_path / "cache").exists()
