"""By which addresses this machine is reached: what the agent listens on, and what it tells the control plane to dial.

The address that counts is the one from which this machine reaches the gateway: on a machine with several networks any other may be a
dead end.
"""

import asyncio
import fcntl
import ipaddress
import logging
import re
import socket
import struct
from dataclasses import dataclass
from pathlib import Path

from picontroller.agent.admission.roots import join_address, split_address
from picontroller.core.errors import Unavailable

log = logging.getLogger(__name__)

DEFAULT_PORT = 7450
SIOCGIFADDR = 0x8915
LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Reach:
    """``ip_address`` is ours as others see it, ``mac_address`` that of its interface (empty when unknown)."""

    ip_address: str
    mac_address: str


async def reach(gateway: str, root: Path = Path("/")) -> Reach:
    """Return the local address that faces ``gateway``. Sends nothing. Raises Unavailable when its name or network can't be found."""
    if gateway.startswith("unix:"):
        return Reach(LOOPBACK, "")
    host, port = split_address(gateway)
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
        family, kind, protocol, _, peer = found[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.connect(peer)  # of a datagram socket: chooses a route, and sends nothing
            address = str(probe.getsockname()[0]).partition("%")[0]
    except OSError as error:
        raise Unavailable(f"there is no way to {gateway}: {error.strerror or error}", reason="NETWORK_UNREACHABLE") from error
    return Reach(address, mac_address_of(address, root))


async def listen_address(wanted: str | None, gateway: str, root: Path = Path("/")) -> str:
    """Return what to listen on: ``wanted``, else loopback for a gateway on this machine, else all addresses.

    All addresses as well while there is no network yet, as at boot.
    """
    if wanted:
        return wanted
    try:
        local = ipaddress.ip_address((await reach(gateway, root)).ip_address).is_loopback
    except Unavailable as error:
        log.info("the network is not there yet", extra={"error": error.message})
        local = False
    return f"{LOOPBACK if local else '0.0.0.0'}:{DEFAULT_PORT}"


def agent_address(advertise: str | None, bound: str, ip_address: str) -> str:
    """Return ``HOST:PORT`` for others to dial: ``advertise``, else the bound port at the bound address or at ours."""
    if advertise:
        return advertise
    host, _, port = bound.rpartition(":")
    anywhere = host.strip("[]") in ("0.0.0.0", "::", "")
    return join_address(ip_address if anywhere else host.strip("[]"), int(port))


def hostname(wanted: str | None) -> str:
    """Return the host name, with what no host name may have replaced."""
    name = re.sub(r"[^A-Za-z0-9.-]+", "-", wanted or socket.gethostname())[:253].strip(".-")
    return name or "raspberrypi"


def mac_address_of(ip_address: str, root: Path = Path("/")) -> str:
    """Return the hardware address of the interface that has ``ip_address``, empty when there is none such."""
    for name in _interfaces(root):
        if _has(name, ip_address, root):
            return _mac(name, root)
    return ""


def _interfaces(root: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in (root / "sys/class/net").iterdir() if entry.name != "lo")
    except OSError:
        return []


def _has(interface: str, ip_address: str, root: Path) -> bool:
    address = ipaddress.ip_address(ip_address)
    if address.version == 6:
        try:
            lines = (root / "proc/net/if_inet6").read_text().splitlines()
        except OSError:
            return False
        return any(line.split()[0] == address.packed.hex() and line.split()[-1] == interface for line in lines)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            answer = fcntl.ioctl(probe, SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return False
    return answer[20:24] == address.packed


def _mac(interface: str, root: Path) -> str:
    try:
        text = (root / "sys/class/net" / interface / "address").read_text().strip().lower()
    except OSError:
        return ""
    return text if re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", text) else ""
