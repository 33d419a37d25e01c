"""A cluster of Ray's: how to reach it, and its nodes."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
import threading
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from nash_jax.machine import num_cores
from nash_jax.text import one_line

#: How an address begins that a program outside of the cluster takes.
_CLIENT = "ray://"
#: Seconds to wait for an answer; Ray itself waits for some minutes.
_TIMEOUT = 5.0
#: The beginning of HTTP/2 with empty settings; and what a server's answer, settings too, has as its
#: fourth byte.
_HELLO = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])
_SETTINGS = 4


def import_ray() -> Any:
    """The module.

    Raises:
      ValueError: if it is not installed.
    """
    try:
        return importlib.import_module("ray")
    except ImportError as error:
        raise ValueError(
            f"executor ray needs Ray, which cannot be imported ({one_line(error)}); install it: "
            "pip install 'nash_jax[ray]'"
        ) from None


class Size(NamedTuple):
    """What a worker takes of a node.

    Attributes:
      cpus: cores.
      gpus: accelerators, or a part of one.
    """

    cpus: int
    gpus: float = 0.0

    def times_in(self, resources: Mapping[str, float]) -> int:
        """How many workers a node can have.

        >>> Size(2).times_in({"CPU": 5.0}), Size(1, 0.5).times_in({"CPU": 8.0, "GPU": 1.0})
        (2, 2)
        """
        cpus, gpus = resources.get("CPU", 0.0), resources.get("GPU", 0.0)
        return int(min(cpus // self.cpus, gpus // self.gpus if self.gpus else cpus))

    def __str__(self) -> str:
        return f"CPU: {self.cpus}" + (f", GPU: {self.gpus:g}" if self.gpus else "")


class Node(NamedTuple):
    """A machine of the cluster, or a part of one.

    Attributes:
      id: Ray's.
      name: for people.
      slots: workers that it can have.
    """

    id: str
    name: str
    slots: int


@contextlib.contextmanager
def joined(address: str, size: Size) -> Iterator[str]:
    """Be connected to a cluster; a program that is, by a `ray.init` of its own, stays as it is.

    Args:
      address: 'auto', the one that this machine is a node of; 'local', a new one of this machine
        alone; HOST:PORT, as of `ray start`; or ray://HOST:PORT, from any machine.
      size: of a worker.

    Yields:
      Where its dashboard is; empty, if it has none.

    Raises:
      ValueError: if nobody answers there, what answers cannot be joined, or no node has room for
        a worker.
    """
    ray = import_ray()
    if ray.is_initialized():
        _check_size(size)
        yield ""
        return
    if address == "auto":  # as Ray does
        address = os.environ.get("RAY_ADDRESS", address)
    if address not in ("auto", "local"):
        _check_that_ray_answers(address)
    local = {"num_cpus": num_cores(), "include_dashboard": False} if address == "local" else {}
    if local:  # nobody asked for a call to the network
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        with _same_signals(), warnings.catch_warnings():
            # Ray begins its servers by a fork, and then a program, so that it is none of JAX's.
            warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
            context = ray.init(address, log_to_driver=False, logging_level="ERROR", **local)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        raise ValueError(_refused(address, one_line(error))) from None
    try:
        _check_size(size)
        url = getattr(context, "dashboard_url", "")
        yield f"http://{url}" if url else ""
    finally:
        ray.shutdown()


def _refused(address: str, why: str) -> str:
    """Why there is no connection, for people."""
    if "AF_UNIX" in why:
        return (
            f"the paths of Ray's sockets may have 107 bytes; got {why.rpartition(': ')[2]}; set "
            "RAY_TMPDIR to a shorter folder, such as /tmp"
        )
    if "Could not find any running Ray" in why:
        return (
            "executor ray needs a cluster, and this machine is a node of none; begin one: ray "
            "start --head; or give --address=HOST:PORT, ray://HOST:PORT, or local"
        )
    return (
        f"the cluster at {address} cannot be joined: {why}; it must have the same versions of Ray "
        "and Python, and if it has a token, RAY_AUTH_MODE=token and ~/.ray/auth_token here too"
    )


def _check_that_ray_answers(address: str) -> None:
    """Raises `ValueError` unless a server of Ray's kind answers soon."""
    host, _, port = address.removeprefix(_CLIENT).rpartition(":")
    if not host or not port.isdecimal():
        raise ValueError(
            f"address must be auto, local, HOST:PORT or ray://HOST:PORT; got {address}"
        )
    why = "what answers is no Ray"
    try:
        with socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT) as connection:
            if os.environ.get("RAY_USE_TLS", "0") == "1":
                return
            connection.settimeout(_TIMEOUT)
            connection.sendall(_HELLO)
            if connection.recv(9)[3:4] == bytes([_SETTINGS]):
                return
    except (OSError, OverflowError) as error:
        why = getattr(error, "strerror", None) or one_line(error)
    default = 10001 if address.startswith(_CLIENT) else 6379
    raise ValueError(
        f"no Ray answers at {address} ({why}); see that `ray start --head` runs there, usually "
        f"with port {default}, and that no firewall is between"
    )


@contextlib.contextmanager
def _same_signals() -> Iterator[None]:
    """Have the program's own handlers of signals afterwards; Ray puts another in their place."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def nodes(size: Size) -> list[Node]:
    """The nodes that can have a worker of this size, or more, now or when others make room."""
    found = []
    for each in import_ray().nodes():
        slots = size.times_in(each["Resources"]) if each["Alive"] else 0
        if slots:
            given, address = each.get("NodeName", ""), each["NodeManagerAddress"]
            name = given if given and given != address else each["NodeManagerHostname"]
            found.append(Node(each["NodeID"], f"{name}-{each['NodeID'][:6]}", slots))
    return sorted(found)


def _check_size(size: Size) -> None:
    """Raises `ValueError` if no node can have a worker."""
    if nodes(size):
        return
    there = [
        ", ".join(f"{kind}: {each['Resources'].get(kind, 0):g}" for kind in ("CPU", "GPU"))
        for each in import_ray().nodes()
        if each["Alive"]
    ]
    remedy = "add a node with accelerators" if size.gpus else "lower threads_per_child"
    raise ValueError(
        f"a child needs a node with {size}; got a cluster with nodes of {'; '.join(there)}; "
        f"{remedy}, or begin nodes with more, by ray start --num-cpus"
    )
