"""The connection to a control plane: which one, as whom, and how long to wait.

Flags win over the environment (PICTL_SERVER, PICTL_CA_FILE, PICTL_TOKEN_FILE, PICTL_CONTEXT), which wins over the current context. Whatever
address is dialled, the server must prove to be ``gateway.pi-controller.local`` under the pinned root.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from picontroller.core import contexts
from picontroller.core.contexts import Context
from picontroller.core.errors import Error, FailedPrecondition, InvalidArgument, Unavailable
from picontroller.core.files import read_secret
from picontroller.gateway.cli.output import Format

GATEWAY_NAME = "gateway.pi-controller.local"
DEFAULT_TIMEOUT_SECONDS = 10.0
LARGEST_MESSAGE_BYTES = 4 * 1024 * 1024


@dataclass
class Session:
    """What was said on the command line, and the channel that follows from it (made at first use).

    ``answered`` tells whether a call came back well.
    """

    output: Format = Format.TABLE
    context_name: str = ""
    server: str = ""
    timeout: float = DEFAULT_TIMEOUT_SECONDS
    yes: bool = False
    watch: bool = False
    answered: bool = False
    _metadata: list[tuple[str, str]] = field(default_factory=list)

    @cached_property
    def context(self) -> Context:
        """The control plane in use. Raises NotFound with what to do when there is none."""
        environ = os.environ
        server = self.server or environ.get("PICTL_SERVER", "")
        ca_file = environ.get("PICTL_CA_FILE", "")
        token_file = environ.get("PICTL_TOKEN_FILE", "")
        if server and ca_file and not self.context_name:
            return Context("environment", _address(server), ca_file, token_file=token_file)
        known = contexts.load(contexts.default_path())
        chosen = known.chosen(self.context_name or environ.get("PICTL_CONTEXT", ""))
        if token_file:
            chosen = Context(chosen.name, chosen.server, chosen.ca_file, token_file=token_file)
        return Context(
            chosen.name,
            _address(server or chosen.server),
            ca_file or chosen.ca_file,
            chosen.client_cert_file,
            chosen.client_key_file,
            chosen.token_file,
        )

    @cached_property
    def channel(self) -> Any:
        """The channel to the gateway. Untyped: generated stubs are typed for grpc.aio and serve both.

        Raises FailedPrecondition for a credential that can't be read.
        """
        import grpc

        context = self.context
        roots = _read(context.ca_file, "the CA certificate")
        key = chain = None
        if context.client_cert_file:
            from picontroller.gateway.cli.trust import credential

            key, chain = credential.load_pair(context)
        if context.token_file:
            token = read_secret(Path(context.token_file)).decode().strip()
            self._metadata[:] = [("authorization", f"Bearer {token}")]
        options = [
            ("grpc.ssl_target_name_override", GATEWAY_NAME),
            ("grpc.default_authority", GATEWAY_NAME),
            ("grpc.max_receive_message_length", LARGEST_MESSAGE_BYTES),
            ("grpc.enable_retries", 0),
        ]
        return grpc.secure_channel(context.server, grpc.ssl_channel_credentials(roots, key, chain), options=options)

    def reconnect(self) -> None:
        """Have the next call read the context's files again."""
        if "channel" in self.__dict__:
            self.channel.close()
            del self.channel

    def refuse_watch(self, instead: str) -> None:
        """Refuse ``--watch`` where there is nothing to watch. Raises InvalidArgument with the verb that watches."""
        if self.watch:
            raise InvalidArgument(f"this list can't be watched; use: {instead}", reason="WATCH_UNSUPPORTED")

    def call(self, method: Any, request: Any, seconds: float | None = None) -> Any:
        """Call a unary method with the session's deadline, or one of ``seconds``. Raises our errors."""
        with self._our_errors():
            answer = method(request, timeout=seconds or self.timeout, metadata=self._metadata)
        self.answered = True
        return answer

    def stream(self, method: Any, request: Any) -> Iterator[Any]:
        """Call a streaming method and yield what comes. Raises our errors; the call is cancelled when iteration ends."""
        call = method(request, metadata=self._metadata)
        try:
            with self._our_errors():
                yield from call
        finally:
            call.cancel()

    def pages(self, method: Any, request: Any, field_name: str) -> list[Any]:
        """Return all items of a listing, page by page."""
        found: list[Any] = []
        while True:
            response = self.call(method, request)
            found.extend(getattr(response, field_name))
            if not response.next_page_token:
                return found
            request.page_token = response.next_page_token

    @contextmanager
    def _our_errors(self) -> Iterator[None]:
        """Translate a failed call's error. Imported here, because a command that calls nobody should not pay for gRPC."""
        import grpc

        from picontroller.core.rpc import errors as rpc_errors

        try:
            yield
        except grpc.RpcError as error:
            raise self._explained(rpc_errors.from_grpc(error)) from None

    def _explained(self, error: Error) -> Error:
        """Return what is really wrong when nobody seems to be there."""
        if not isinstance(error, Unavailable):
            return error
        from picontroller.gateway.cli.trust import diagnosis

        return diagnosis.explained(self.context, GATEWAY_NAME, error)


def _address(text: str) -> str:
    bare = text.removeprefix("https://").rstrip("/")
    host, separator, port = bare.rpartition(":")
    if not separator:
        return f"{bare}:8443"
    if not port.isdigit() or not host:
        raise InvalidArgument(f"a server is HOST:PORT, not {text!r}", reason="SERVER_INVALID")
    return bare


def _read(path: str, what: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FailedPrecondition(f"{what} {path} can't be read: {error.strerror}", reason="CREDENTIAL_MISSING") from error
