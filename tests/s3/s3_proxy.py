"""A proxy before an S3 endpoint that injects faults after a plan: every fault is counted by its kind."""

import contextlib
import http.client
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from seeds import drawing

KINDS = ("unavailable", "slow_down", "reset", "truncated", "lost_reply", "stall", "conflict", "internal")
HOP = {"connection", "transfer-encoding", "keep-alive", "content-length"}
Plan = Callable[[str, str], str]  # method and path of a request -> kind of fault, or "" for none


def xml(code: str, message: str) -> bytes:
    text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    return f'<?xml version="1.0" encoding="UTF-8"?>{text}'.encode()


ANSWERS = {
    "unavailable": (503, xml("ServiceUnavailable", "try again")),
    "slow_down": (503, xml("SlowDown", "reduce your request rate")),
    "conflict": (409, xml("ConditionalRequestConflict", "a conflicting operation is going on")),
    "internal": (500, xml("InternalError", "an internal error")),
    "expired": (400, xml("ExpiredToken", "the provided token has expired")),
    "denied": (403, xml("AccessDenied", "access denied")),
    "wrong_key": (403, xml("InvalidAccessKeyId", "the key does not exist")),
    "wrong_secret": (403, xml("SignatureDoesNotMatch", "the signature does not match")),
    "no_upload": (404, xml("NoSuchUpload", "the upload does not exist")),
    "skew": (403, xml("RequestTimeTooSkewed", "the difference between the times is too large")),
}


class Proxy:
    """Where it listens, what it injects, and how often it did."""

    def __init__(self, upstream: str, stall: float) -> None:
        self.host, self.stall = upstream.removeprefix("http://"), stall
        self.plan: Plan = lambda method, path: ""
        self.injected: Counter[str] = Counter()
        self.requests = 0
        self.lock = threading.Lock()
        self.endpoint = ""

    def choose(self, method: str, path: str) -> str:
        with self.lock:
            self.requests += 1
            kind = self.plan(method, path)
            if kind:
                self.injected[kind] += 1
            return kind


def seeded(seed: int, rate: float, kinds: tuple[str, ...] = KINDS, most: int = 10**9) -> Plan:
    """Faults at that rate in an order that the seed gives, at most so many."""
    dice, left = drawing(seed), most

    def plan(method: str, path: str) -> str:
        nonlocal left
        if left and dice.random() < rate:
            left -= 1
            return dice.choice(kinds)
        return ""

    return plan


@contextlib.contextmanager
def before(upstream: str, stall: float = 10.0) -> Iterator[Proxy]:
    proxy = Proxy(upstream, stall)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle_one_request(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle_one_request()

        def relay(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            if "chunked" in (self.headers.get("Transfer-Encoding") or ""):
                body = self.unchunk()
            kind = proxy.choose(self.command, self.path)
            if kind == "stall":
                time.sleep(proxy.stall)
            if kind == "reset":
                return self.reset()
            if kind in ANSWERS:
                status, text = ANSWERS[kind]
                return self.answer(status, {"Content-Type": "application/xml"}, text)
            upstream = http.client.HTTPConnection(proxy.host, timeout=60)
            headers = {k: v for k, v in self.headers.items() if k.lower() not in HOP}
            upstream.request(self.command, self.path, body, headers | {"Content-Length": str(len(body))})
            answer = upstream.getresponse()
            data = answer.read()
            upstream.close()
            if kind == "lost_reply" or (kind == "truncated" and len(data) < 2):
                return self.reset()
            found = {k: v for k, v in answer.getheaders() if k.lower() not in HOP}
            if self.command == "HEAD":
                found["Content-Length"] = answer.getheader("Content-Length") or "0"
            if kind == "truncated":
                self.answer(answer.status, found | {"Content-Length": str(len(data))}, data[: len(data) // 2])
                return self.reset()
            self.answer(answer.status, found, data)

        def unchunk(self) -> bytes:
            out = b""
            while size := int(self.rfile.readline().split(b";")[0], 16):
                out += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return out

        def answer(self, status: int, headers: dict[str, str], data: bytes) -> None:
            self.send_response_only(status)
            for key, value in headers.items():
                self.send_header(key, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)
            self.wfile.flush()

        def reset(self) -> None:
            """Close so that the other side sees a connection reset."""
            self.close_connection = True
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

        do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = relay

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.handle_error = lambda request, client_address: None
    threading.Thread(target=server.serve_forever, daemon=True).start()
    proxy.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
