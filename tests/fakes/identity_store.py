"""The identity service's store in memory. Transactions are simple here: nothing is changed before everything has been checked."""

from dataclasses import replace
from datetime import datetime, timedelta

from picontroller.core.callers import SpiffeId, parse_spiffe_id
from picontroller.core.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded
from picontroller.core.events import Event
from picontroller.identity import names
from picontroller.identity.api_tokens import ApiToken
from picontroller.identity.authority import Issued
from picontroller.identity.join_tokens import REPEAT_WINDOW, JoinToken, Redemption, Refusal
from picontroller.identity.registry import MOST_RENEWALS, Certification, Issue, certificate_event


class FakeIdentityStore:
    """Implements ``registry.Store`` and ``service.Listings`` (without pages). ``events`` has everything that was told, oldest first."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.tokens: dict[str, JoinToken] = {}
        self.revoked: set[str] = set()
        self.issued: dict[bytes, tuple[Issued, datetime]] = {}
        self.api: list[ApiToken] = []
        self._secrets: dict[str, bytes] = {}
        self._keys: dict[str, bytes] = {}
        self._names: dict[SpiffeId, tuple[str, ...]] = {}

    async def add_join_token(self, token: JoinToken, secret_hash: bytes, event: Event) -> None:
        self.tokens[token.id] = token
        self._secrets[token.id] = secret_hash
        self.events.append(event)

    async def revoke_join_token(self, token_id: str, now: datetime) -> None:
        if token_id not in self.tokens:
            raise NotFound("no such token", reason="TOKEN_UNKNOWN")
        if self.tokens[token_id].used:
            raise FailedPrecondition("it was used", reason="TOKEN_USED")
        if token_id not in self.revoked:
            self.revoked.add(token_id)
            self.events.append(Event("token.revoked", now, resource=token_id))

    async def redeem(self, redemption: Redemption, trust_domain: str, issue: Issue) -> Issued | Refusal:
        token = self.tokens.get(redemption.token_id)
        if token is None or self._secrets[token.id] != redemption.secret_hash:
            return Refusal.INVALID
        if token.used is not None:
            if self._keys[token.id] == redemption.key_hash and redemption.now - token.used <= REPEAT_WINDOW:
                return self.issued[redemption.key_hash][0]
            self.events.append(Event("token.reused", redemption.now, resource=token.id, data={"used_by": token.used_by}))
            return Refusal.USED
        if token.id in self.revoked or token.expires <= redemption.now:
            return Refusal.INVALID
        self._refuse_known(redemption.key_hash)
        identity = parse_spiffe_id(f"spiffe://{trust_domain}{redemption.path_for(token)}")
        made = issue(identity, self._names.get(identity, ()))
        self.tokens[token.id] = replace(token, used=redemption.now, used_by=str(identity))
        self._keys[token.id] = redemption.key_hash
        self.issued[redemption.key_hash] = (made, redemption.now)
        self.events.append(Event("token.used", redemption.now, resource=token.id, data={"used_by": str(identity)}))
        self.events.append(certificate_event("certificate.issued", made, redemption.now))
        return made

    async def is_revoked(self, proof: str) -> bool:
        return False

    async def certify(self, certification: Certification, issue: Issue) -> Issued:
        wish = certification
        kept = self.issued.get(wish.key_hash)
        if kept is not None and kept[0].identity == wish.identity and wish.now - kept[1] <= REPEAT_WINDOW:
            return kept[0]
        self._refuse_known(wish.key_hash)
        mine = [at for made, at in self.issued.values() if (made.identity, made.root) == (wish.identity, wish.root)][-MOST_RENEWALS:]
        if len(mine) == MOST_RENEWALS and all(timedelta(0) <= wish.now - at < wish.window for at in mine):
            raise QuotaExceeded("too many", reason="RATE_LIMITED", retry_after=(min(mine) + wish.window - wish.now).total_seconds())
        before = () if wish.replace_names else self._names.get(wish.identity, ())
        wanted = names.checked(wish.identity, {*before, *wish.asked})
        for owner, theirs in self._names.items():
            taken = [name for name in wanted if name in theirs and not names.is_shareable(name)]
            if taken and not names.is_same_member(owner, wish.identity):
                raise PermissionDenied(f"{taken[0]} is taken", reason="NAMES_REFUSED")
        made = issue(wish.identity, wanted)
        self._names[wish.identity] = wanted
        self.issued[wish.key_hash] = (made, wish.now)
        self.events.append(certificate_event(wish.event, made, wish.now))
        return made

    async def add_api_token(self, token: ApiToken, event: Event) -> None:
        self.api.append(token)
        self.events.append(event)

    async def join_tokens(self, size: int, token: str) -> tuple[list[JoinToken], str]:
        return list(self.tokens.values())[::-1], ""

    async def certificates(self, size: int, token: str) -> tuple[list[Issued], str]:
        return [made for made, _ in self.issued.values()][::-1], ""

    async def api_tokens(self, size: int, token: str) -> tuple[list[ApiToken], str]:
        return self.api[::-1], ""

    def _refuse_known(self, key_hash: bytes) -> None:
        if key_hash in self.issued:
            raise InvalidArgument("known key", reason="KEY_REUSED")
