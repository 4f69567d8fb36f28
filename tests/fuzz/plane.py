"""The plane that campaigns run against, who calls it, and what must be true of it afterwards.

Callers reach services at their own sockets, as Envoy does: the gateway's identity carries tokens, agents and services have certificates.
Nodes that a campaign may delete are registered for it and answer at no address; the simulated Pis are left alone by name.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import grpc.aio

from picontroller.core.callers import SpiffeId
from picontroller.core.tls.channels import anonymous_channel, channel
from picontroller.core.tls.identity import IdentityFolder, Trust, credentials_from, key_to_pem, new_key, server_name, signing_request
from picontroller.v1 import discovery_pb2, discovery_pb2_grpc, gpio_pb2, gpio_pb2_grpc, identity_pb2, identity_pb2_grpc
from tests.fuzz.messages import Things
from tests.integration.plane import Plane

MEMBERS = ("identity", "events", "discovery", "gpio")
NOWHERE = "[::1]:1"
OWN_DOING = '"event": "events of a source are missing", "source": "gateway"'
_ODD = re.compile(
    r'"level": ?"(?:error|critical)"|failed unexpectedly|Traceback|never retrieved|was never awaited|'
    r'"code": ?"(?:INTERNAL|UNKNOWN|DATA_LOSS)"'
)
PEOPLE = {"admin": 1, "operator": 2, "monitor": 3}
GATEWAY = "gateway.pi-controller.local"


def raised_limits(defaults: str) -> dict[str, str]:
    """Return an environment in which no limit on rates is met, made of what ``pictl config default`` prints."""
    found: dict[str, str] = {}
    for section, values in tomllib.loads(defaults).items():
        for key, value in values.items():
            if section in ("limits", "gateway") and key.endswith(("per_second", "burst", "per_address")):
                found[f"PICONTROLLER_{section.upper()}__{key.upper()}"] = str(type(value)(500_000))
            elif (section, key) == ("limits", "streams"):
                found["PICONTROLLER_LIMITS__STREAMS"] = "1000"
    return found


@dataclass(frozen=True)
class Caller:
    """Who calls: an identity that TLS shows (none at the edge) and metadata."""

    name: str
    identity: IdentityFolder | None
    metadata: tuple[tuple[str, str], ...] = ()


@dataclass
class Target:
    """A running plane with callers of every kind, the addresses to call at, and the things that are there."""

    plane: Plane
    callers: dict[str, Caller]
    addresses: dict[str, tuple[str, str]]
    agent_id: str
    things: Things
    secrets: tuple[bytes, ...]
    _channels: dict[tuple[str, str], grpc.aio.Channel] = field(default_factory=dict)

    def channel(self, place: str, caller: Caller) -> grpc.aio.Channel:
        """Return the channel on which ``caller`` calls ``place``: a member, ``agent``, ``reflection`` or ``edge``."""
        owner = "edge" if place == "edge" else caller.name if caller.name.startswith(("agent", "svc")) else "carried"
        if (place, owner) not in self._channels:
            address, name = self.addresses[place]
            if place == "edge" or caller.identity is None:
                made = anonymous_channel((self.plane.admin / "ca.pem").read_bytes(), address, name)
            else:
                made = channel(caller.identity, address, name)
            self._channels[place, owner] = made
        return self._channels[place, owner]

    async def close(self) -> None:
        for made in self._channels.values():
            await made.close()

    def ids(self, kind: str) -> list[str]:
        """Return ids of ``nodes`` (simulated Pis among them), nodes that may be deleted (``doomed``), or ``gpio`` resources."""
        kinds = {"nodes": discovery_pb2.GetNodeRequest, "doomed": discovery_pb2.DeleteNodeRequest, "gpio": gpio_pb2.GetGpioResourceRequest}
        return self.things.of(kinds[kind].DESCRIPTOR.fields_by_name["id"])

    def rss(self) -> int:
        """Return the bytes of memory that the control plane's Python process occupies."""
        (pid,) = self.plane.pids.values()
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096

    async def still_well(self) -> list[str]:
        """Return what is wrong after a campaign: services that do not serve, good calls that fail, callers who lost their standing."""
        problems: list[str] = []
        with self.plane.client() as client:
            ready = client.get("/readyz")
            if ready.status_code != 200:
                problems.append(f"not ready: {ready.text}")
            nodes = client.get("/api/v1/nodes", params={"page_size": 1000}).json().get("nodes", [])
            alive = {node["hostname"] for node in nodes if node["status"] == "READY"}
            problems += [f"pi-{number} is not READY" for number in (1, 2, 3) if f"pi-{number}" not in alive]
        for caller in self.callers.values():
            if caller.name in ("anonymous", "forger"):
                continue
            who = identity_pb2_grpc.IdentityServiceStub(self.channel("identity", caller))
            try:
                await who.WhoAmI(identity_pb2.WhoAmIRequest(), metadata=caller.metadata, timeout=10)  # type: ignore[misc]  # aio stubs
            except grpc.aio.AioRpcError as error:
                problems.append(f"{caller.name} may not ask who it is: {error.code().name} {error.details()}")
        return problems


def log_problems(path: Path) -> list[str]:
    """Return the lines of a log that tell of something unforeseen.

    Gaps in what the campaign published as a service are its own doing.
    """
    return [line[:20000] for line in path.read_text(errors="replace").splitlines() if _ODD.search(line) and OWN_DOING not in line]


def secrets_below(folder: Path) -> tuple[bytes, ...]:
    """Return what nobody may ever be sent: lines of every private key that is kept in files, and the admin's token."""
    found = {(folder / "admin" / "token").read_bytes().strip()}
    for path in folder.rglob("*"):
        if path.is_file() and path.stat().st_size < 100_000 and path.suffix in (".pem", ".key", ".json"):
            raw = path.read_bytes()
            for key in re.findall(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\n(.*?)-----END", raw, re.DOTALL):
                found.update(line for line in key.splitlines()[1:] if len(line) > 30)
    return tuple(found)


async def prepare(plane: Plane, scratch: Path) -> Target:
    """Return a plane with callers and things. It has three simulated Pis; the third one's agent is called by itself."""
    data = plane.data_dir
    edge = _loaded(data / "gateway" / "edge")
    run = data / "run"
    addresses = {name: (f"unix:{run / name}.sock", server_name(SpiffeId("", "svc", name))) for name in MEMBERS}
    addresses["reflection"] = (f"unix:{run / 'gateway'}.sock", server_name(SpiffeId("", "svc", "gateway")))
    addresses["edge"] = (plane.url.removeprefix("https://"), GATEWAY)
    token = (plane.admin / "token").read_text().strip()
    admin = Caller("admin", edge, _bearer(token))
    callers = {
        "admin": admin,
        "anonymous": Caller("anonymous", edge),
        "forger": Caller("forger", edge, _bearer(token[:-6] + "AAAAAA")),
        "svc-gateway": Caller("svc-gateway", _loaded(data / "gateway" / "tls")),
        "svc-gpio": Caller("svc-gpio", _loaded(data / "gpio" / "tls")),
    }
    target = Target(plane, callers, addresses, "", Things(), secrets_below(data))
    await _people(target, admin)
    await _nodes(target, admin, scratch)
    await _resources(target, admin)
    return target


def _loaded(path: Path) -> IdentityFolder:
    folder = IdentityFolder(path)
    folder.load()
    return folder


def _bearer(token: str) -> tuple[tuple[str, str], ...]:
    return (("authorization", f"Bearer {token}"),)


async def _people(target: Target, admin: Caller) -> None:
    stub: Any = identity_pb2_grpc.IdentityServiceStub(target.channel("identity", admin))
    for name, role in PEOPLE.items():
        if name != "admin":
            made = await stub.CreateApiToken(identity_pb2.CreateApiTokenRequest(subject=name, roles=[role]), metadata=admin.metadata)
            target.callers[name] = Caller(name, admin.identity, _bearer(made.token))
    for number in range(10):
        request = identity_pb2.CreateApiTokenRequest(subject=f"victim-{number}", roles=[3])
        made = await stub.CreateApiToken(request, metadata=admin.metadata)
        target.things.add("RevokeApiTokenRequest.id", made.id)
    target.things.add("RevokeCertificateRequest.identity", "/user/victim-1", "/node/00000000-0000-4000-8000-000000000000")
    target.things.add("RevokeCertificateRequest.serial", "0123456789abcdef")
    target.things.add("csr_pem", *(signing_request(new_key()).decode() for _ in range(40)), "-----BEGIN CERTIFICATE REQUEST-----")


async def _nodes(target: Target, admin: Caller, scratch: Path) -> None:
    """Join eight nodes that are not there: two of them call, the others may be deleted."""
    identity: Any = identity_pb2_grpc.IdentityServiceStub(target.channel("identity", admin))
    joined: list[str] = []
    for number in range(8):
        token = await identity.CreateJoinToken(identity_pb2.CreateJoinTokenRequest(), metadata=admin.metadata)
        key = new_key()
        issued = await identity.IssueCertificate(
            identity_pb2.IssueCertificateRequest(token=token.token, csr_pem=signing_request(key).decode())
        )
        folder = IdentityFolder(scratch / f"agent-{number}")
        bundle = issued.trust_bundle
        trust = Trust(bundle.version, bundle.trust_domain, bundle.roots_pem.encode(), bundle.jwks_json)
        folder.store(credentials_from(key_to_pem(key), issued.certificate_chain_pem.encode()), trust)
        caller = Caller(f"agent-{number}", folder)
        register: Any = discovery_pb2_grpc.DiscoveryServiceStub(target.channel("discovery", caller))
        await register.RegisterNode(registration(issued.node_id, f"fuzz-{number}"))
        joined.append(issued.node_id)
        if number < 2:
            target.callers[caller.name] = caller
    nodes = target.plane.ready_nodes(3)
    simulated = {node["hostname"]: node for node in nodes if node["hostname"] in ("pi-1", "pi-2", "pi-3")}
    third = simulated["pi-3"]
    target.agent_id = third["id"]
    target.addresses["agent"] = (third["agent_address"], server_name(SpiffeId("", "node", third["id"])))
    things, away = target.things, joined[:2]
    for request in ("RegisterNodeRequest.id", "ReportHealthRequest.id"):
        things.add(request, *away)
    things.add("UnregisterNodeRequest.id", *joined[2:])  # whoever takes its leave is heard no more
    things.add("DeleteNodeRequest.id", *joined[2:], "there-is-no-such-node")
    things.add("node_id", simulated["pi-1"]["id"], simulated["pi-2"]["id"], joined[0], "there-is-no-such-node")
    things.add("CreateJoinTokenRequest.node_id", *joined)
    for request in ("GetNodeRequest.id", "UpdateNodeRequest.id"):
        things.add(request, *(node["id"] for node in nodes), *joined)
    things.add("agent_address", NOWHERE)
    things.add("ip_address", "127.0.0.1", "::1")


def registration(node_id: str, hostname: str) -> discovery_pb2.RegisterNodeRequest:
    """Return what an agent that nobody can reach says of itself."""
    return discovery_pb2.RegisterNodeRequest(
        id=node_id, hostname=hostname, ip_address="127.0.0.1", architecture="aarch64", agent_version="0.1.0", agent_address=NOWHERE,
        capabilities={"model": "Raspberry Pi 4 Model B", "simulated": True},
    )  # fmt: skip


async def _resources(target: Target, admin: Caller) -> None:
    gpio: Any = gpio_pb2_grpc.GpioServiceStub(target.channel("gpio", admin))
    nodes = [text for text in _known(target.things, "node_id") if "-" in text][:2]
    for node in nodes:
        for bcm in (5, 6, 12, 13):
            request = gpio_pb2.CreateGpioResourceRequest(name=f"fuzz-{node[:8]}-{bcm}", node_id=node, pin={"bcm": bcm}, mode=1 + bcm % 2)  # type: ignore[arg-type]  # a number for the enum
            target.things.learn(await gpio.CreateGpioResource(request, metadata=admin.metadata))


def _known(things: Things, name: str) -> Sequence[str]:
    return things.of(gpio_pb2.CreateGpioResourceRequest.DESCRIPTOR.fields_by_name[name])
