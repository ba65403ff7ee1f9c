"""A chat endpoint over real HTTP, on a port of its own, that misbehaves on request."""

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

JudgeReply = tuple[int, dict[str, str], bytes] | None  # status, headers, body; None hangs up


def says(text: str | None, *, logprobs: Any = None, prompt: int = 100, answer: int = 5) -> JudgeReply:
    choice = {"message": {"role": "assistant", "content": text}, "logprobs": logprobs}
    usage = {"prompt_tokens": prompt, "completion_tokens": answer}
    return 200, {}, json.dumps({"choices": [choice], "usage": usage}).encode()


def truth(body: dict[str, Any]) -> JudgeReply:
    """A judge that is right: yes where the given answer is the accepted one."""
    accepted, given = body["messages"][1]["content"].split("Accepted answers:\n- ")[1].split("\nGiven answer: ")
    return says(json.dumps({"correct": "yes" if accepted == given else "no"}))


class JudgeServer:
    def __init__(self, behave: Callable[[dict[str, Any], int], JudgeReply]) -> None:
        self.behave = behave
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.tries: Counter[str] = Counter()
        self.most_at_once = self._at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = body["messages"][-1]["content"]
                with server._lock:
                    server.bodies.append(body)
                    server.headers.append(dict(self.headers))
                    server.tries[asked] += 1
                    attempt = server.tries[asked]
                    server._at_once += 1
                    server.most_at_once = max(server.most_at_once, server._at_once)
                try:
                    reply = server.behave(body, attempt)
                finally:
                    with server._lock:
                        server._at_once -= 1
                if reply is None or self.path != "/v1/chat/completions":
                    self.close_connection = True
                    return
                status, headers, data = reply
                try:
                    self.send_response(status)
                    for name, value in ({"Content-Length": str(len(data))} | headers).items():
                        self.send_header(name, value)
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    self.close_connection = True  # the client gave up waiting

            def log_message(self, format: str, *args: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            request_queue_size = 128

        self._http = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}/v1"

    def serve(self) -> None:
        self._http.serve_forever(poll_interval=0.02)

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


@contextmanager
def serving(behave: Callable[[dict[str, Any], int], JudgeReply]) -> Iterator[JudgeServer]:
    server = JudgeServer(behave)
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()


def slowly(body: dict[str, Any]) -> JudgeReply:
    time.sleep(0.05)
    return truth(body)
