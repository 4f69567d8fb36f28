"""Calling peers. Every unary call has a deadline, carries the request id on, and raises our errors; every peer is verified by name.

Deadlines are passed with each call and never set in a service config: grpcio fires those one to two seconds early.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import grpc
import grpc.aio

from picontroller.core import logs
from picontroller.core.callers import SpiffeId
from picontroller.core.errors import FailedPrecondition, Unavailable
from picontroller.core.rpc import errors as rpc_errors
from picontroller.core.rpc.interceptors.call import REQUEST_ID
from picontroller.core.tls import channels
from picontroller.core.tls.identity import IdentityFolder, server_name

DEFAULT_SECONDS = 5.0
OLD_CHANNEL_GRACE_SECONDS = 60.0


def _metadata(extra: Mapping[str, str] | None) -> list[tuple[str, str]]:
    found = [(REQUEST_ID, current)] if (current := logs.request_id.get()) else []
    return [*found, *(extra or {}).items()]


async def unary(method: Any, request: Any, *, seconds: float = DEFAULT_SECONDS, metadata: Mapping[str, str] | None = None) -> Any:
    """Call a stub's unary method and return its response. Raises our errors, Unavailable when nobody answers.

    ``method`` is typed Any because stubs of the synchronous and the asynchronous kind share their type.
    """
    try:
        return await method(request, timeout=seconds, metadata=_metadata(metadata))
    except grpc.aio.AioRpcError as error:
        raise rpc_errors.from_grpc(error) from None
    except asyncio.CancelledError:
        _blame_channel()
        raise


async def stream(method: Any, request: Any, *, metadata: Mapping[str, str] | None = None) -> AsyncGenerator[Any, None]:
    """Call a stub's server-streaming method and yield its responses. The call is cancelled when the iteration is given up."""
    call = method(request, metadata=_metadata(metadata))
    try:
        async for response in call:
            yield response
    except grpc.aio.AioRpcError as error:
        raise rpc_errors.from_grpc(error) from None
    except asyncio.CancelledError:
        _blame_channel()
        raise
    finally:
        call.cancel()


def _blame_channel() -> None:
    """Raise Unavailable unless it was our task that was cancelled: calls on a channel that is closed are cancelled as well."""
    task = asyncio.current_task()
    if task is not None and not task.cancelling():
        raise Unavailable("the connection was replaced while the call was under way") from None


class Mesh:
    """Channels to peers under one identity. ``addresses`` tells where services are: ``{"events": "127.0.0.1:7441"}``.

    Channels are made at first use, shared, and replaced when the identity changes; calls in flight on an old one may finish.
    """

    def __init__(self, identity: IdentityFolder, addresses: Mapping[str, str]) -> None:
        self.identity = identity
        self._addresses = dict(addresses)
        self._channels: dict[tuple[str, str], tuple[int, grpc.aio.Channel]] = {}
        self._nodes: dict[tuple[str, str], str] = {}
        self._unlisten: Callable[[], None] | None = None
        self._closing: set[asyncio.Task[None]] = set()

    def knows(self, service: str) -> bool:
        """Return whether the address of ``service`` is known."""
        return service in self._addresses

    def service(self, name: str) -> grpc.aio.Channel:
        """Return the channel to one of our services. Raises Unavailable when nobody said where it is."""
        if name not in self._addresses:
            raise Unavailable(f"the address of {name} is not configured", reason="PEER_UNKNOWN")
        return self.channel(self._addresses[name], server_name(SpiffeId("", "svc", name)))

    def node(self, node_id: str, address: str) -> grpc.aio.Channel:
        """Return the channel to a node's agent at ``address``. Raises FailedPrecondition (NODE_REVOKED) for one that was shut out.

        Whoever was reached before is then cut off as well.
        """
        name = server_name(SpiffeId("", "node", node_id))
        if self._denies(node_id):
            self.forget(address, name)
            raise FailedPrecondition(f"node {node_id} was revoked", reason="NODE_REVOKED", metadata={"node_id": node_id})
        self._nodes[address, name] = node_id
        if self._unlisten is None:
            loop = asyncio.get_running_loop()

            def changed() -> None:
                loop.call_soon_threadsafe(self._forget_denied)

            self._unlisten = self.identity.denials.on_change(changed)
        return self.channel(address, name)

    def _denies(self, node_id: str) -> bool:
        denials = self.identity.denials
        return len(denials) > 0 and denials.denies(str(SpiffeId(self.identity.trust.trust_domain, "node", node_id)))

    def _forget_denied(self) -> None:
        for (address, name), node_id in list(self._nodes.items()):
            if self._denies(node_id):
                self.forget(address, name)

    def channel(self, address: str, name: str) -> grpc.aio.Channel:
        """Return the channel to a server that calls itself ``name`` at ``address``."""
        version, kept = self._channels.get((address, name), (-1, None))
        if kept is not None and version == self.identity.version:
            return kept
        fresh = channels.channel(self.identity, address, name)
        self._channels[address, name] = (self.identity.version, fresh)
        if kept is not None:
            self._retire(kept, OLD_CHANNEL_GRACE_SECONDS)
        return fresh

    def forget(self, address: str, name: str) -> None:
        """Close the channel to a server that has gone for good."""
        self._nodes.pop((address, name), None)
        _, kept = self._channels.pop((address, name), (0, None))
        if kept is not None:
            self._retire(kept, 0)

    def _retire(self, old: grpc.aio.Channel, grace: float) -> None:
        task = asyncio.get_running_loop().create_task(old.close(grace))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)

    async def close(self) -> None:
        """Close all channels."""
        if self._unlisten is not None:
            self._unlisten()
            self._unlisten = None
        for task in list(self._closing):
            task.cancel()
        for _, channel in self._channels.values():
            with contextlib.suppress(asyncio.CancelledError):
                await channel.close()
        self._channels.clear()
