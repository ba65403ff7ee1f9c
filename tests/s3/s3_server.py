"""A real S3 endpoint over HTTP in a process of its own (moto's server)."""

import contextlib
import subprocess
import sys
import urllib.request
from collections.abc import Iterator

# S3 decides a conditional put in one step. moto looks first and writes later, so that of two at once both can win:
# here they are taken in turn.
SCRIPT = """
import logging, sys, threading
logging.getLogger("werkzeug").setLevel(logging.ERROR)
from moto.s3.responses import S3Response
from moto.server import ThreadedMotoServer
put, turn = S3Response.put_object, threading.Lock()
def in_turn(self, *args, **kwargs):
    with turn:
        return put(self, *args, **kwargs)
S3Response.put_object = in_turn
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print(server.get_host_and_port()[1], flush=True)
sys.stdin.read()
"""
KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing-key", "AWS_DEFAULT_REGION": "us-east-1"}


@contextlib.contextmanager
def serve() -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdin and process.stdout
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.stdin.close()
        process.wait(60)


def make_bucket(endpoint: str, name: str) -> None:
    """An empty bucket; moto asks for no signature."""
    request = urllib.request.Request(f"{endpoint}/{name}", method="PUT")
    urllib.request.urlopen(request, timeout=30).close()
