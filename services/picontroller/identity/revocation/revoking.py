"""Making a certificate, an API token or a whole identity worthless.

A revocation is one transaction: marks, denials and events together. Whoever is told to stay out for good is barred, which never ends; the
denials that keep its proofs out end when those would have ended anyway.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from picontroller.core.callers import Caller, Role, SpiffeId, parse_spiffe_id
from picontroller.core.clock import Clock
from picontroller.core.errors import FailedPrecondition, InvalidArgument, PermissionDenied, Violation

# Tokens are believed a minute beyond their end, because clocks differ. Denials outlive that.
KEPT_AFTER_END = timedelta(minutes=2)


@dataclass(frozen=True, slots=True)
class Revoked:
    """What a revocation made worthless: serial numbers and ids. Nothing when it all was before."""

    serials: tuple[str, ...] = ()
    api_tokens: tuple[str, ...] = ()


class Store(Protocol):
    """Where revocations are kept. Each method is one transaction, its events included; repeating it changes nothing."""

    async def revoke_certificate(self, serial: str, reason: str, now: datetime) -> Revoked:
        """Revoke one certificate. Raises NotFound."""
        ...

    async def revoke_identity(
        self, identity: SpiffeId, reason: str, *, may_return: bool, now: datetime, issued_before: datetime | None = None
    ) -> Revoked:
        """Revoke all that an identity has, its unused join tokens included, and bar it unless it may return. Raises NotFound.

        What it got after ``issued_before`` is left alone.
        """
        ...

    async def revoke_api_token(self, token_id: str, now: datetime) -> None:
        """Revoke one API token. Raises NotFound."""
        ...


class Revocations:
    """Revokes. ``own`` are the paths (``/svc/gpio``) of identities that the control plane makes for itself at each start."""

    def __init__(self, store: Store, trust_domain: str, own: Iterable[str], clock: Clock) -> None:
        self._store = store
        self._trust_domain = trust_domain
        self._own = frozenset(own)
        self._clock = clock
        self._listeners: list[Callable[[], object]] = []

    def on_revocation(self, listener: Callable[[], object]) -> None:
        """Call ``listener`` after every revocation."""
        self._listeners.append(listener)

    async def certificate(self, caller: Caller, serial: str, reason: str) -> Revoked:
        """Revoke a certificate by its serial number, the caller's own included. Raises NotFound, PermissionDenied."""
        _refuse_services(caller, None)
        revoked = await self._store.revoke_certificate(serial, reason, self._clock.now())
        self._tell()
        return revoked

    async def identity(self, caller: Caller, path: str, reason: str, *, may_return: bool, issued_before: datetime | None = None) -> Revoked:
        """Revoke all that ``path`` has, or had until ``issued_before``.

        Raises NotFound, PermissionDenied, FailedPrecondition for one that can't be barred, and InvalidArgument for a time without
        ``may_return``: whoever stays out keeps nothing.
        """
        _refuse_services(caller, path)
        if issued_before is not None and not may_return:
            wrong = Violation("issued_before", "goes with may_return only")
            raise InvalidArgument("an identity that may not return loses everything", reason="VALIDATION_FAILED", violations=[wrong])
        if path in self._own and not may_return:
            # Without the authority or the gateway nobody could be told anything any more. They get a new certificate at the next start.
            raise FailedPrecondition(
                f"the control plane makes {path} itself at each start, so that it can't be kept out for good; revoke it with may_return",
                reason="IDENTITY_OWN",
            )
        identity = parse_spiffe_id(f"spiffe://{self._trust_domain}{path}")
        now = self._clock.now()
        revoked = await self._store.revoke_identity(identity, reason, may_return=may_return, now=now, issued_before=issued_before)
        self._tell()
        return revoked

    async def api_token(self, token_id: str) -> None:
        """Revoke an API token. Raises NotFound."""
        await self._store.revoke_api_token(token_id, self._clock.now())
        self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()


def _refuse_services(caller: Caller, path: str | None) -> None:
    """Raise PermissionDenied for a service that revokes anything but a node: that is all that discovery is asked to do."""
    if Role.SERVICE in caller.roles and not (path or "").startswith("/node/"):
        raise PermissionDenied("a service revokes nodes only", reason="NODES_ONLY")
