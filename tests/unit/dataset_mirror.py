"""A hub in miniature on this machine that holds data sets: what `datasets` asks of one, and no more."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote

from hub_mirror import COMMIT, running

_RANGE = re.compile(r"bytes=(\d+)-(\d*)")


@contextmanager
def serve_datasets(folders: Mapping[str, Path]) -> Iterator[str]:
    """Serves each folder, README.md and all, as the data set of its name; gives the hub's URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.answer()

        def do_HEAD(self) -> None:
            self.answer()

        def do_POST(self) -> None:
            self.answer()

        def answer(self) -> None:
            sent = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            path = unquote(self.path.split("?")[0])
            name = next((n for n in folders if f"/datasets/{n}/" in f"{path}/"), None)
            if name is None:
                return self.refuse("RepoNotFound")
            folder, rest = folders[name], path.partition(f"/datasets/{name}")[2].strip("/").split("/")
            if not path.startswith("/api/"):
                return self.file(folder / "/".join(rest[2:]))  # resolve/REVISION/PATH
            if rest[0] == "tree":
                below = folder / "/".join(rest[2:])
                return self.told([entry(folder, p) for p in sorted(below.rglob("*"))] if below.is_dir() else None)
            if rest[0] == "paths-info":
                asked = [folder / p for p in parse_qs(sent).get("paths", ())]
                return self.told([entry(folder, p) for p in asked if p.exists()])
            return self.told({"id": name, "sha": COMMIT, "siblings": [], "private": False})

        def file(self, path: Path) -> None:
            if not path.is_file():
                return self.refuse("EntryNotFound")
            body, status, more = path.read_bytes(), 200, {"Accept-Ranges": "bytes"}
            more |= {"ETag": f'"{hashlib.sha256(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
            if part := _RANGE.fullmatch(self.headers.get("Range") or ""):
                start, end = int(part[1]), int(part[2] or len(body) - 1) + 1
                more["Content-Range"] = f"bytes {start}-{min(end, len(body)) - 1}/{len(body)}"
                body, status = body[start:end], 206
            self.send(status, body, more)

        def told(self, value: Any) -> None:
            if value is None:
                return self.refuse("EntryNotFound")
            self.send(200, json.dumps(value).encode(), {"Content-Type": "application/json"})

        def refuse(self, code: str) -> None:
            self.send(404, b"{}", {"X-Error-Code": code})

        def send(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
            self.send_response(status)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with running(Handler) as url:
        yield url


def entry(folder: Path, path: Path) -> dict[str, Any]:
    """What the hub says of one of its files or folders."""
    name = str(path.relative_to(folder))
    if path.is_dir():
        return {"type": "directory", "path": name, "size": 0, "oid": name}
    return {"type": "file", "path": name, "size": path.stat().st_size, "oid": hashlib.sha1(name.encode()).hexdigest()}
