"""Who gets which identity: join tokens in, certificates and API tokens out.

Nothing is issued that is not recorded in the same transaction, and nothing a caller writes in a signing request reaches a certificate
except its key.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol

from cryptography.hazmat.primitives.asymmetric import ec

from picontroller.core import ids
from picontroller.core.callers import Caller, Role, SpiffeId, parse_spiffe_id
from picontroller.core.clock import Clock
from picontroller.core.errors import InvalidArgument, PermissionDenied, Unauthenticated
from picontroller.core.events import Event
from picontroller.core.tls import joining
from picontroller.core.tls.identity import Trust
from picontroller.identity import authority, join_tokens, names
from picontroller.identity.api_tokens import ApiToken, TokenSigner
from picontroller.identity.authority import Issued, PublicKey, key_hash
from picontroller.identity.join_tokens import JoinToken, Redemption, Refusal
from picontroller.identity.keyring import Keyring, State
from picontroller.identity.settings import Settings
from picontroller.identity.signing_requests import public_key_of

API_TOKEN_LIFE = timedelta(hours=24)
# Members renew once in two thirds of a certificate's life. Five in a tenth of it leave room for further names and for restarts; each one
# is a row that has to be kept until it ends, and who could have any number would fill the disk, which stops revocation too.
MOST_RENEWALS = 5
RENEWAL_WINDOW = 0.1  # of a certificate's life

# Makes a certificate for a path (``/svc/gpio``) with further names. Called within the transaction that records it.
Issue = Callable[[SpiffeId, tuple[str, ...]], Issued]


@dataclass(frozen=True, slots=True)
class Certification:
    """A wish for a certificate. ``asked`` names join those kept for the identity, or take their place if ``replace_names``.

    ``proof`` is what the caller proved itself with, which must not have been revoked; empty for this machine's own. ``window`` is the time
    within which the identity may get ``MOST_RENEWALS`` certificates under ``root``, zero for any number: a new root is no renewer's doing.
    """

    identity: SpiffeId
    key_hash: bytes
    asked: tuple[str, ...]
    replace_names: bool
    event: str
    now: datetime
    proof: str = ""
    root: str = ""
    window: timedelta = timedelta(0)


class Store(Protocol):
    """Where the registry keeps what it knows. Each method is one transaction, its events included."""

    async def add_join_token(self, token: JoinToken, secret_hash: bytes, event: Event) -> None:
        """Keep a new join token."""
        ...

    async def revoke_join_token(self, token_id: str, now: datetime) -> None:
        """Make an unused token worthless. Raises NotFound, or FailedPrecondition when it was used; repeating it changes nothing."""
        ...

    async def redeem(self, redemption: Redemption, trust_domain: str, issue: Issue) -> Issued | Refusal:
        """Use up a token and keep what ``issue`` returns for it; the same again for the same key within ``join_tokens.REPEAT_WINDOW``.

        Raises InvalidArgument, leaving the token as it is, for a key that was certified before.
        """
        ...

    async def certify(self, certification: Certification, issue: Issue) -> Issued:
        """Keep what ``issue`` returns. A repetition with the same key within ``join_tokens.REPEAT_WINDOW`` gets the same certificate.

        Raises InvalidArgument for a key that was certified before, PermissionDenied for a name that another identity has, and for an
        identity or a proof that was revoked, QuotaExceeded for one that had enough within the window.
        """
        ...

    async def is_revoked(self, proof: str) -> bool:
        """Return whether ``certificate:<serial>`` or ``token:<id>`` was revoked."""
        ...

    async def add_api_token(self, token: ApiToken, event: Event) -> None:
        """Keep what an API token says."""
        ...


class Registry:
    """The identity service's domain. ``trust`` is what all members are to believe.

    ``known_roots`` are fingerprints of all roots that the authority ever had: a join token may name one that has gone since.
    """

    def __init__(
        self, keyring: Keyring, store: Store, trust: Trust, settings: Settings, clock: Clock, known_roots: Iterable[str] = ()
    ) -> None:
        self._keyring = keyring
        self._known_roots = {*known_roots, *(root.fingerprint for root in keyring.roots)}
        self._store = store
        self._settings = settings
        self._clock = clock
        self._signer = TokenSigner(keyring.token_key, keyring.trust_domain)
        self.trust = trust
        self._trust_listeners: list[Callable[[], None]] = []

    def on_trust(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` whenever what members are to believe has changed."""
        self._trust_listeners.append(listener)

    def publish_trust(self, trust: Trust) -> None:
        """Have members believe ``trust`` from now on; it must be on disk already."""
        self.trust = trust
        for listener in self._trust_listeners:
            listener()

    @property
    def keyring(self) -> Keyring:
        """What certificates are issued with now."""
        return self._keyring

    def adopt(self, keyring: Keyring, trust: Trust) -> None:
        """Issue with ``keyring`` and have members believe ``trust`` from now on; both must be on disk already."""
        self._keyring = keyring
        self._known_roots.update(root.fingerprint for root in keyring.roots)
        self.publish_trust(trust)

    @property
    def life(self) -> timedelta:
        """How long certificates hold."""
        return timedelta(seconds=self._settings.certificate_seconds)

    @property
    def trust_domain(self) -> str:
        """The trust domain of all identities."""
        return self._keyring.trust_domain

    def fingerprint(self) -> str:
        """Return the root's fingerprint as it stands in join tokens: the oldest one's, to which the chains of every state lead."""
        return self._keyring.roots[0].fingerprint

    async def create_join_token(
        self, description: str, ttl: timedelta | None, node_id: str = "", service: str = ""
    ) -> tuple[JoinToken, str]:
        """Return a new join token with its text, which is shown this once."""
        now = self._clock.now()
        path = f"/node/{node_id}" if node_id else f"/svc/{service}" if service else ""
        life = ttl or timedelta(seconds=self._settings.join_token_seconds)
        token = JoinToken(ids.new_short_id(), description, path, now, now + life)
        secret = joining.new_secret()
        event = Event("token.created", now, resource=token.id, data={"identity": path, "expire_time": token.expires.isoformat()})
        await self._store.add_join_token(token, join_tokens.hash_of(secret), event)
        parts = joining.JoinTokenParts(joining.root_hash(self._keyring.roots[0].certificate), token.id, secret)
        return token, parts.text()

    async def revoke_join_token(self, token_id: str) -> None:
        """Make an unused token worthless. Raises NotFound, or FailedPrecondition when it was used."""
        await self._store.revoke_join_token(token_id, self._clock.now())

    async def join(self, token_text: str, csr_pem: str) -> Issued:
        """Return a certificate for the key in ``csr_pem`` and use up the token; a bad request leaves the token as it is.

        Raises InvalidArgument for what is no token or no good request, Unauthenticated (TOKEN_INVALID, TOKEN_USED) for a bad token.
        """
        key = public_key_of(csr_pem)
        parts = joining.parse_token(token_text)
        self._refuse_own(key)
        ours = parts.fingerprint in self._known_roots
        secret_hash = join_tokens.hash_of(parts.secret) if ours else bytes(32)
        redemption = Redemption(parts.id, secret_hash, key_hash(key), ids.new_uuid(), self._clock.now())
        outcome = await self._store.redeem(redemption, self.trust_domain, self._issue(key))
        if isinstance(outcome, Issued):
            return outcome
        if outcome is Refusal.USED:
            raise Unauthenticated("the join token was used already; make a new one", reason="TOKEN_USED")
        raise Unauthenticated("the join token is not valid (any more); make a new one", reason="TOKEN_INVALID")

    async def renew(self, caller: Caller, csr_pem: str, san: Sequence[str] = (), acts_for: str = "") -> Issued:
        """Return a certificate for the caller's identity, or for ``/gateway`` when the gateway's process asks for that.

        Raises PermissionDenied for a caller that proved itself by an API token, and for names it may not have, QuotaExceeded for one that
        comes too often.
        """
        if caller.identity is None or caller.method != "certificate":
            raise PermissionDenied("a certificate is renewed with that certificate, not with a token", reason="CERTIFICATE_NEEDED")
        identity = caller.identity
        if acts_for:
            if caller.service != "gateway":
                raise PermissionDenied("only the gateway's own process renews the gateway's identity", reason="NOT_GATEWAY")
            identity = SpiffeId(self.trust_domain, "gateway", "")
        key = public_key_of(csr_pem)
        roles = caller.roles if identity.kind == "user" else frozenset[Role]()
        return await self._certify(identity, key, names.checked(identity, san), "certificate.renewed", roles, proof=caller.proof)

    async def enrol(
        self,
        path: str,
        key: ec.EllipticCurvePublicKey,
        *,
        san: Sequence[str] = (),
        roles: frozenset[Role] = frozenset(),
        keep_names: bool = False,
    ) -> Issued:
        """Return a certificate for ``path`` (``/svc/gpio``, ``/user/admin``). For this machine's own use.

        It carries exactly the names ``san``; with ``keep_names`` those of the identity's last certificate as well.
        """
        identity = parse_spiffe_id(f"spiffe://{self.trust_domain}{path}")
        return await self._certify(identity, key, names.checked(identity, san), "certificate.issued", roles, replace_names=not keep_names)

    async def create_api_token(self, subject: str, roles: Sequence[Role], ttl: timedelta | None) -> tuple[ApiToken, str]:
        """Return a new API token with its text, which is shown this once."""
        now = self._clock.now().replace(microsecond=0)
        token = ApiToken(ids.new_uuid(), subject, tuple(roles), now, now + (ttl or API_TOKEN_LIFE))
        data = {"subject": subject, "roles": [role.name for role in roles], "expire_time": token.expires.isoformat()}
        await self._store.add_api_token(token, Event("api_token.created", now, resource=token.id, data=data))
        return token, self._signer.sign(token)

    def issued(self, chain_pem: bytes) -> bool:
        """Return whether a chain leads to a root of ours that is believed. Dates are not looked at."""
        return any(authority.leads_to(root, chain_pem) for root in self._keyring.roots)

    def issued_under_active_root(self, chain_pem: bytes) -> bool:
        """Return whether a chain leads to the root under which certificates are issued now, so that it outlives the end of a rotation."""
        return authority.leads_to(self._keyring.root, chain_pem)

    def accepts(self, api_token: str, at: datetime) -> bool:
        """Return whether an API token is ours and has not ended at ``at``."""
        return self._signer.holds(api_token, at)

    async def is_revoked(self, serial: str) -> bool:
        """Return whether a certificate was revoked."""
        return await self._store.is_revoked(f"certificate:{serial}")

    async def is_revoked_token(self, api_token: str) -> bool:
        """Return whether an API token that we accept was revoked."""
        return await self._store.is_revoked(f"token:{self._signer.id_of(api_token)}")

    async def replace_worn_issuing(self) -> None:
        """Make a new issuing authority when the present one has lived two thirds of its life. Nobody needs to be told: chains carry it."""
        now = self._clock.now()
        if authority.is_worn(self._keyring.issuing, now):
            self._keyring = self._keyring.with_new_issuing(now)

    async def _certify(
        self,
        identity: SpiffeId,
        key: PublicKey,
        asked: tuple[str, ...],
        event: str,
        roles: frozenset[Role],
        *,
        replace_names: bool = False,
        proof: str = "",
    ) -> Issued:
        self._refuse_own(key)
        window = self.life * RENEWAL_WINDOW if proof else timedelta(0)
        root = self._keyring.root.fingerprint
        wish = Certification(identity, key_hash(key), asked, replace_names, event, self._clock.now(), proof, root, window)
        return await self._store.certify(wish, self._issue(key, roles))

    def _issue(self, key: PublicKey, roles: frozenset[Role] = frozenset()) -> Issue:
        keyring, now, life = self._keyring, self._clock.now(), self.life
        organisations = authority.organisations_of(roles)

        def issue(identity: SpiffeId, further: tuple[str, ...]) -> Issued:
            return authority.issue(
                keyring.issuing,
                identity,
                key,
                now,
                life,
                names=further,
                roles=organisations,
                cross_pem=keyring.cross_pem,
                root=keyring.root.fingerprint,
            )

        return issue

    def _refuse_own(self, key: PublicKey) -> None:
        own = {key_hash(signer.key.public_key()) for signer in (*self._keyring.roots, self._keyring.issuing)}
        if key_hash(key) in own:
            raise InvalidArgument("this is a key of the authority itself", reason="KEY_REUSED")


def trust_of(keyring: Keyring, version: int) -> Trust:
    """Return what members are to believe of ``keyring``."""
    jwks = TokenSigner(keyring.token_key, keyring.trust_domain).jwks()
    renew_now = keyring.state is State.RETIRING
    return Trust(version, keyring.trust_domain, keyring.roots_pem(), jwks, keyring.root.fingerprint, renew_now)


def digest_of(keyring: Keyring) -> bytes:
    """Return a SHA-256 that changes with everything in ``trust_of`` but the version."""
    trust = trust_of(keyring, 0)
    parts = (trust.roots_pem, trust.jwks_json.encode(), trust.active_root.encode(), bytes([trust.renew_now]))
    return hashlib.sha256(b"".join(parts)).digest()


def certificate_event(kind: str, issued: Issued, now: datetime) -> Event:
    """Return the event of a certificate that was issued or renewed."""
    node_id = issued.identity.name if issued.identity.kind == "node" else ""
    data = {"serial": issued.serial, "expire_time": issued.expires.isoformat()}
    return Event(kind, now, resource=str(issued.identity), node_id=node_id, data=data)
