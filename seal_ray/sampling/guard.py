"""Who may ask a server: vLLM's own check leaves out every address that does not begin with /v1 or another few words.

Among those that it leaves out are some that generate and one that loads any folder as an adapter, so this one stands
before all of them. It is an ASGI middleware, named on the server's command line.
"""

import hashlib
import os
import secrets
from collections.abc import Awaitable, Callable, MutableMapping
from ipaddress import ip_address
from typing import Any

TOKEN = "VLLM_API_KEY"
OPEN = frozenset({"/health"})  # says nothing but that the server is up
Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Callable[[], Awaitable[Message]], Send], Awaitable[None]]


class Guard:
    """With a token, nobody without it gets past `/health`. Without one, a request must name this machine.

    A page in a browser can make a name of its own point to this machine; the request then still carries that name.
    """

    def __init__(self, app: App) -> None:
        self._app = app
        token = os.environ.get(TOKEN, "")
        self._token = _digest(token.encode()) if token else b""

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Send) -> None:
        if scope["type"] == "lifespan" or scope["path"] in OPEN:
            return await self._app(scope, receive, send)
        headers = {name.lower(): value for name, value in scope["headers"]}
        refused = self._refused(headers)
        if not refused:
            return await self._app(scope, receive, send)
        if scope["type"] == "websocket":
            return await send({"type": "websocket.close", "code": 1008})
        head = {"type": "http.response.start", "status": refused, "headers": [(b"content-type", b"application/json")]}
        await send(head)
        await send({"type": "http.response.body", "body": b'{"error": "Unauthorized"}'})

    def _refused(self, headers: dict[bytes, bytes]) -> int:
        """The status of a refusal; 0 where there is none."""
        if not self._token:
            return 0 if is_loopback(_host(headers.get(b"host", b""))) else 403
        scheme, _, said = headers.get(b"authorization", b"").partition(b" ")
        known = secrets.compare_digest(_digest(said), self._token)
        return 0 if known and scheme.lower() == b"bearer" else 401


def is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _host(header: bytes) -> str:
    """The name in a Host header, without its port."""
    text = header.decode("latin1").lower()
    return text[1:].partition("]")[0] if text.startswith("[") else text.partition(":")[0]


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
