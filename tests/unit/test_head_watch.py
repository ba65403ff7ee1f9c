"""The watch over the cluster's head, against a real door that closes."""

import socket
import threading

import pytest

from seal_ray.fleet.head_watch import HeadWatch, patience


def door(port: int = 0) -> socket.socket:
    listening = socket.create_server(("127.0.0.1", port))
    listening.listen()
    return listening


def test_a_head_that_is_gone_is_told_once() -> None:
    head, told, said = door(), threading.Event(), list[float]()

    def lost(seconds: float) -> None:
        said.append(seconds)
        told.set()

    HeadWatch(f"127.0.0.1:{head.getsockname()[1]}", lost, within=0.3, every=0.05)
    assert not told.wait(0.6)
    head.close()
    assert told.wait(30) and said[0] >= 0.3
    told.clear()
    assert not told.wait(0.3) and len(said) == 1


def test_a_head_that_comes_back_and_a_watch_that_is_over_tell_nothing() -> None:
    head, told = door(), threading.Event()
    port = head.getsockname()[1]
    watch = HeadWatch(f"127.0.0.1:{port}", lambda _: told.set(), within=1e9, every=0.05)
    head.close()
    assert not told.wait(0.2)
    head = door(port)
    watch.close()
    head.close()
    assert not told.wait(0.2)


def test_it_gives_up_before_ray_does(monkeypatch: pytest.MonkeyPatch) -> None:
    assert patience() == 45
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "600")
    assert patience() == 450
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "soon")
    assert patience() == 45
