"""Ports of this machine that nobody listened on when they were asked for."""

import contextlib
import socket


def free_ports(count: int) -> list[int]:
    """As many different ones; whoever takes one at once is unlikely to find it gone."""
    with contextlib.ExitStack() as open_:
        sockets = [open_.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def free_port() -> int:
    return free_ports(1)[0]
