"""Addresses that a host binds: refused before anything is made when they are taken, with the next step."""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address

from picontroller.core.errors import FailedPrecondition
from picontroller.core.rpc import metrics


def split(address: str) -> tuple[str, int]:
    """Return host, without brackets, and port of ``HOST:PORT``."""
    host, _, port = address.rpartition(":")
    return host.strip("[]"), int(port)


def refuse_taken(listen: str) -> None:
    """Raise FailedPrecondition when ``listen`` can't be bound, before anything is started."""
    host, _, port = listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except (OSError, OverflowError, ValueError) as error:
            raise _unavailable(listen, error, "choose another with --listen") from error


def outward(listen: str, port: int, san: Sequence[str]) -> str:
    """Return ``HOST:PORT`` at which other machines reach us, by the first of ``san`` if there is one; empty when we are on loopback."""
    host = split(listen)[0]
    if host == "localhost" or (_is_ip(host) and ip_address(host).is_loopback):
        return ""
    if san:
        host = san[0]
    elif _is_ip(host) and ip_address(host).is_unspecified:
        host = _own_address()
    return (f"[{host}]:{port}" if ":" in host else f"{host}:{port}") if host else ""


def _own_address() -> str:
    """Return the address that this machine would send from, or nothing without a network. Nothing is sent: connecting UDP only looks up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # a documentation address: any route will do
        except OSError:
            return ""
        return str(probe.getsockname()[0])


def _is_ip(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


@contextmanager
def serving_metrics(address: str) -> Iterator[int]:
    """Serve metrics on ``address`` and yield the port that was bound. Raises FailedPrecondition for a taken one."""
    try:
        port, server, thread = metrics.serve(*split(address))
    except OSError as error:
        raise _unavailable(f"metrics address {address}", error, "choose another with metrics in [mesh]; port 0 takes a free one") from error
    try:
        yield port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _unavailable(what: str, error: Exception, remedy: str) -> FailedPrecondition:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        reason = "Address already in use"
    return FailedPrecondition(f"{what} can't be used: {reason}; {remedy}", reason="ADDRESS_UNAVAILABLE")
