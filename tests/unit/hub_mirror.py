"""A hub in miniature on this machine: what huggingface_hub asks of a mirror for one model, and no more."""

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def serve(
    folder: Path,
    name: str,
    token: str = "",
    large: tuple[str, ...] = ("*.safetensors",),
    commit: str = COMMIT,
) -> Iterator[tuple[str, list[str]]]:
    """Serves the folder's files as the model `name`; gives its URL and what was asked. A token makes it gated.

    `large`: what it keeps apart, so that its listing has the SHA-256. `commit`: what the branch stands for.
    """
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer(True)

        def do_HEAD(self) -> None:
            self.answer(False)

        def answer(self, with_body: bool) -> None:
            path = self.path.split("?")[0]
            asked.append(path)
            if f"/{name}" not in path:
                return self.send(404, b"{}", {"X-Error-Code": "RepoNotFound"}, with_body)
            if token and self.headers.get("Authorization") != f"Bearer {token}":
                return self.send(403, b"{}", {"X-Error-Code": "GatedRepo"}, with_body)
            if path.startswith("/api/"):
                revision = path.rsplit("/", 1)[-1]
                if revision not in {"main", commit, "tree"} and "/tree/" not in path:
                    return self.send(404, b"{}", {"X-Error-Code": "RevisionNotFound"}, with_body)
                files = sorted(p.name for p in folder.iterdir())
                if "/tree/" in path:
                    listing = [told(folder / name, large) for name in files]
                    return self.send(200, json.dumps(listing).encode(), {}, with_body)
                info = {"id": name, "sha": commit, "siblings": [{"rfilename": f} for f in files], "private": False}
                return self.send(200, json.dumps(info).encode(), {}, with_body)
            body = (folder / path.rsplit("/", 1)[-1]).read_bytes()
            headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": commit}
            return self.send(200, body, headers, with_body)

        def send(self, status: int, body: bytes, headers: dict[str, str], with_body: bool) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if with_body:
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with running(Handler) as url:
        yield url, asked


def told(file: Path, large: tuple[str, ...]) -> dict[str, Any]:
    """A file's entry in the listing."""
    entry: dict[str, Any] = {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
    if any(file.match(pattern) for pattern in large):
        sha = hashlib.sha256(file.read_bytes()).hexdigest()
        entry["lfs"] = {"oid": sha, "size": entry["size"], "pointerSize": 134}
    return entry


@contextmanager
def running(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """A server on a free port of this machine; gives its URL."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
