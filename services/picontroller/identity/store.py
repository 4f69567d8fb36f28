"""Join tokens, certificates, API tokens and the version of the trust bundle, in one SQLite file.

A token is used up by one conditional statement in the transaction that records its certificate, so that of any number of attempts at most
one gets something. Times are whole microseconds since 1970. No secret is ever written here.
"""

import hmac
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import TypeVar, cast

import apsw

from picontroller.core.callers import Role, SpiffeId, parse_spiffe_id
from picontroller.core.errors import FailedPrecondition, InvalidArgument, NotFound, PermissionDenied, QuotaExceeded
from picontroller.core.events import Event
from picontroller.core.store import audit, outbox, pages
from picontroller.core.store.sqlite import Database
from picontroller.identity import names
from picontroller.identity.api_tokens import ApiToken
from picontroller.identity.authority import Issued
from picontroller.identity.join_tokens import REPEAT_WINDOW, JoinToken, Redemption, Refusal
from picontroller.identity.registry import MOST_RENEWALS, Certification, Issue, certificate_event
from picontroller.identity.revocation import store as revocations
from picontroller.identity.rotation import store as rotations

Row = Sequence[object]
T = TypeVar("T")

SCHEMA = (
    outbox.SCHEMA
    + pages.SCHEMA
    + """
CREATE TABLE join_tokens (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, secret_hash BLOB NOT NULL, description TEXT NOT NULL,
    identity TEXT NOT NULL, create_time INTEGER NOT NULL, expire_time INTEGER NOT NULL, revoke_time INTEGER,
    use_time INTEGER, used_by TEXT NOT NULL DEFAULT '', key_hash BLOB
);
CREATE TABLE certificates (
    number INTEGER PRIMARY KEY AUTOINCREMENT, serial TEXT NOT NULL UNIQUE, identity TEXT NOT NULL, key_hash BLOB NOT NULL UNIQUE,
    issue_time INTEGER NOT NULL, start_time INTEGER NOT NULL, expire_time INTEGER NOT NULL, chain TEXT NOT NULL
);
CREATE TABLE names (identity TEXT NOT NULL, name TEXT NOT NULL, PRIMARY KEY (identity, name)) WITHOUT ROWID;
CREATE TABLE api_tokens (
    number INTEGER PRIMARY KEY AUTOINCREMENT, id TEXT NOT NULL UNIQUE, subject TEXT NOT NULL, roles TEXT NOT NULL,
    create_time INTEGER NOT NULL, expire_time INTEGER NOT NULL
);
CREATE TABLE trust (version INTEGER NOT NULL, trust_domain TEXT NOT NULL, digest BLOB NOT NULL);
"""
)
SCRIPTS = (SCHEMA, revocations.SCRIPT, rotations.SCRIPT, audit.SCHEMA, rotations.IN_USE_SCRIPT)
# What has ended is listed for a while, then forgotten, so that certificates of a few seconds can't fill a disk.
KEPT_AFTER_END = timedelta(days=30)
# Beyond an identity's newest few, what has ended is forgotten after a day. What has not ended is kept: it may have to be revoked.
MOST_KEPT = 20
SUPERSEDED_KEPT_AFTER_END = timedelta(days=1)
_TOKEN = "id, description, identity, create_time, expire_time, use_time, used_by"  # noqa: S105 - names of columns
_USE_UP = (
    "UPDATE join_tokens SET use_time = ?, key_hash = ?"  # noqa: S608 - constants
    f" WHERE id = ? AND use_time IS NULL AND revoke_time IS NULL AND expire_time > ? RETURNING {_TOKEN}"
)
_CERTIFICATE = "serial, identity, key_hash, start_time, expire_time, chain"
_SHOWN = f"{_CERTIFICATE}, revoke_time, revoke_reason, root"


class IdentityStore:
    """The store of the registry."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def is_new(self) -> bool:
        """Return whether no authority was ever recorded here."""
        return await self._database.read(lambda c: c.execute("SELECT count(*) FROM trust").get == 0)

    async def record_trust(self, trust_domain: str, digest: bytes) -> int:
        """Return the version of the trust bundle with ``digest``, a higher one when it is not the newest recorded.

        Raises FailedPrecondition when the trust domain is another one than that of the first start.
        """

        def work(c: apsw.Connection) -> int:
            row = c.execute("SELECT version, trust_domain, digest FROM trust").fetchone()
            if row is not None and row[1] != trust_domain:
                raise FailedPrecondition(
                    f"trust_domain is {row[1]} in this data folder and can't become {trust_domain}", reason="TRUST_DOMAIN_CHANGED"
                )
            if row is not None and row[2] == digest:
                return int(row[0])
            version = int(row[0]) + 1 if row else 1
            c.execute("DELETE FROM trust")
            c.execute("INSERT INTO trust VALUES (?, ?, ?)", (version, trust_domain, digest))
            return version

        return await self._database.write(work)

    async def add_join_token(self, token: JoinToken, secret_hash: bytes, event: Event) -> None:
        """Keep a new join token."""

        def work(c: apsw.Connection) -> None:
            revocations.refuse_barred(c, token.identity)
            c.execute("DELETE FROM join_tokens WHERE expire_time < ?", (_micros(token.created - KEPT_AFTER_END),))
            c.execute(
                "INSERT INTO join_tokens (id, secret_hash, description, identity, create_time, expire_time) VALUES (?, ?, ?, ?, ?, ?)",
                (token.id, secret_hash, token.description, token.identity, _micros(token.created), _micros(token.expires)),
            )
            outbox.emit(c, event)

        await self._database.write(work)

    async def revoke_join_token(self, token_id: str, now: datetime) -> None:
        """Make an unused token worthless. Raises NotFound, or FailedPrecondition when it was used; repeating it changes nothing."""

        def work(c: apsw.Connection) -> None:
            row = c.execute("SELECT use_time, revoke_time FROM join_tokens WHERE id = ?", (token_id,)).fetchone()
            if row is None:
                raise NotFound(f"there is no join token {token_id}", reason="TOKEN_UNKNOWN")
            if row[0] is not None:
                raise FailedPrecondition(f"join token {token_id} was used already", reason="TOKEN_USED")
            if row[1] is None:
                c.execute("UPDATE join_tokens SET revoke_time = ? WHERE id = ?", (_micros(now), token_id))
                outbox.emit(c, Event("token.revoked", now, resource=token_id))

        await self._database.write(work)

    async def redeem(self, redemption: Redemption, trust_domain: str, issue: Issue) -> Issued | Refusal:
        """Use up a token and keep what ``issue`` returns for it; see ``registry.Store``."""

        def work(c: apsw.Connection) -> Issued | Refusal:
            row = c.execute("SELECT secret_hash, identity FROM join_tokens WHERE id = ?", (redemption.token_id,)).fetchone()
            # Unknown ids are compared as well, so that both answers take the same work.
            if not hmac.compare_digest(bytes(row[0]) if row else bytes(31) + b"\1", redemption.secret_hash) or row is None:
                return Refusal.INVALID
            revocations.refuse_barred(c, str(row[1]), PermissionDenied)
            now = _micros(redemption.now)
            taken = c.execute(_USE_UP, (now, redemption.key_hash, redemption.token_id, now)).fetchall()
            if not taken:
                return _answer_again(c, redemption)
            path = redemption.path_for(_join_token(taken[0]))
            identity = parse_spiffe_id(f"spiffe://{trust_domain}{path}")
            _refuse_known_key(c, redemption.key_hash)
            issued = issue(identity, _kept_names(c, identity))
            c.execute("UPDATE join_tokens SET used_by = ? WHERE id = ?", (str(identity), redemption.token_id))
            _keep(c, issued, redemption.now)
            rotations.heard_of(c, identity, "", redemption.now)
            outbox.emit(c, Event("token.used", redemption.now, resource=redemption.token_id, data={"used_by": str(identity)}))
            outbox.emit(c, certificate_event("certificate.issued", issued, redemption.now))
            return issued

        return await self._database.write(work)

    async def certify(self, certification: Certification, issue: Issue) -> Issued:
        """Keep what ``issue`` returns; see ``registry.Store``."""

        def work(c: apsw.Connection) -> Issued:
            revocations.refuse_barred(c, revocations.path_of(certification.identity), PermissionDenied)
            if certification.proof and revocations.is_denied(c, certification.proof):
                raise PermissionDenied("the certificate was revoked and is not renewed", reason="PROOF_REVOKED")
            kept = _certificate_with(c, certification.key_hash)
            if kept is not None and kept[0].identity == certification.identity and certification.now - kept[1] <= REPEAT_WINDOW:
                return kept[0]
            _refuse_known_key(c, certification.key_hash)
            _refuse_haste(c, certification)
            issued = issue(certification.identity, _names_for(c, certification))
            _keep(c, issued, certification.now)
            if certification.proof:  # somebody asked for it, who is alive; what this machine makes for a member says nothing of it
                rotations.heard_of(c, certification.identity, _own_proof(certification), certification.now)
            outbox.emit(c, certificate_event(certification.event, issued, certification.now))
            return issued

        return await self._database.write(work)

    async def add_api_token(self, token: ApiToken, event: Event) -> None:
        """Keep what an API token says."""

        def work(c: apsw.Connection) -> None:
            revocations.refuse_barred(c, f"/user/{token.subject}")
            c.execute("DELETE FROM api_tokens WHERE expire_time < ?", (_micros(token.created - KEPT_AFTER_END),))
            c.execute(
                "INSERT INTO api_tokens (id, subject, roles, create_time, expire_time) VALUES (?, ?, ?, ?, ?)",
                (token.id, token.subject, ",".join(r.name for r in token.roles), _micros(token.created), _micros(token.expires)),
            )
            outbox.emit(c, event)

        await self._database.write(work)

    async def is_revoked(self, proof: str) -> bool:
        """Return whether ``certificate:<serial>`` or ``token:<id>`` was revoked."""
        return await self._database.read(lambda c: revocations.is_denied(c, proof))

    async def join_tokens(self, size: int, token: str) -> tuple[list[JoinToken], str]:
        """Return a page of join tokens, newest first, and the token of the next page. Raises InvalidArgument for a bad page token."""
        return await self._database.read(lambda c: _page(c, "join_tokens", _TOKEN, _join_token, size, token))

    async def certificates(self, size: int, token: str) -> tuple[list[Issued], str]:
        """Return a page of certificates, newest first, as ``join_tokens`` does."""
        return await self._database.read(lambda c: _page(c, "certificates", _SHOWN, _certificate, size, token))

    async def api_tokens(self, size: int, token: str) -> tuple[list[ApiToken], str]:
        """Return a page of API tokens, newest first, as ``join_tokens`` does."""
        columns = "id, subject, roles, create_time, expire_time, revoke_time"
        return await self._database.read(lambda c: _page(c, "api_tokens", columns, _api_token, size, token))


def _answer_again(c: apsw.Connection, redemption: Redemption) -> Issued | Refusal:
    """Return the answer for a token whose secret was right and that can't be used (any more)."""
    row = c.execute("SELECT use_time, key_hash, used_by FROM join_tokens WHERE id = ?", (redemption.token_id,))
    used, key_hash, used_by = row.fetchall()[0]
    if used is None:
        return Refusal.INVALID
    if key_hash == redemption.key_hash and redemption.now - _time(used) <= REPEAT_WINDOW:
        kept = _certificate_with(c, redemption.key_hash)
        if kept is not None:
            return kept[0]
    outbox.emit(c, Event("token.reused", redemption.now, resource=redemption.token_id, data={"used_by": used_by}))
    return Refusal.USED


def _own_proof(wish: Certification) -> str:
    """Return what an asker uses until it has the answer. People are not listened to afterwards, so that their newest certificate counts."""
    return "" if wish.identity.kind == "user" else wish.proof


def _keep(c: apsw.Connection, issued: Issued, now: datetime) -> None:
    c.execute("DELETE FROM certificates WHERE expire_time < ?", (_micros(now - KEPT_AFTER_END),))
    c.execute(
        "DELETE FROM certificates WHERE identity = :identity AND expire_time < :end AND number NOT IN"
        " (SELECT number FROM certificates WHERE identity = :identity ORDER BY number DESC LIMIT :kept)",
        {"identity": str(issued.identity), "end": _micros(now - SUPERSEDED_KEPT_AFTER_END), "kept": MOST_KEPT},
    )
    c.execute(
        f"INSERT INTO certificates ({_CERTIFICATE}, issue_time, root) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",  # noqa: S608 - a constant
        (
            issued.serial,
            str(issued.identity),
            issued.key_hash,
            _micros(issued.start),
            _micros(issued.expires),
            issued.chain_pem,
            _micros(now),
            issued.root,
        ),
    )


def _certificate_with(c: apsw.Connection, key_hash: bytes) -> tuple[Issued, datetime] | None:
    """Return the certificate for a key with the time at which it was issued, unless it was revoked."""
    sql = f"SELECT {_SHOWN}, issue_time FROM certificates WHERE key_hash = ? AND revoke_time IS NULL"  # noqa: S608 - constants
    row = c.execute(sql, (key_hash,)).fetchone()
    return (_certificate(row[:-1]), _time(row[-1])) if row else None


def _refuse_known_key(c: apsw.Connection, key_hash: bytes) -> None:
    if c.execute("SELECT count(*) FROM certificates WHERE key_hash = ?", (key_hash,)).get:
        raise InvalidArgument("this key was certified before; make a new one", reason="KEY_REUSED")


def _refuse_haste(c: apsw.Connection, wish: Certification) -> None:
    """Raise QuotaExceeded when the identity had as many certificates as it may within the window."""
    newest = c.execute(
        "SELECT issue_time FROM certificates WHERE identity = ? AND root = ? ORDER BY number DESC LIMIT ?",
        (str(wish.identity), wish.root, MOST_RENEWALS),
    )
    ages = [wish.now - _time(issued) for (issued,) in newest]
    if len(ages) == MOST_RENEWALS and all(timedelta(0) <= age < wish.window for age in ages):
        wait = (wish.window - max(ages)).total_seconds()
        raise QuotaExceeded(
            f"{revocations.path_of(wish.identity)} had {MOST_RENEWALS} certificates within {wish.window.total_seconds():.0f} s;"
            f" use the newest, or try again in {wait:.0f} s",
            reason="RATE_LIMITED",
            retry_after=wait,
        )


def _names_for(c: apsw.Connection, wish: Certification) -> tuple[str, ...]:
    """Return the further names of a certificate and keep them for the identity's next."""
    kept = () if wish.replace_names else _kept_names(c, wish.identity)
    wanted = names.checked(wish.identity, {*kept, *wish.asked})
    for name in wanted:
        owners = [parse_spiffe_id(str(row[0])) for row in c.execute("SELECT identity FROM names WHERE name = ?", (name,))]
        if not names.is_shareable(name) and any(not names.is_same_member(owner, wish.identity) for owner in owners):
            raise PermissionDenied(f"{name} belongs to another member", reason="NAMES_REFUSED")
    c.execute("DELETE FROM names WHERE identity = ?", (str(wish.identity),))
    c.executemany("INSERT INTO names VALUES (?, ?)", [(str(wish.identity), name) for name in wanted])
    return wanted


def _kept_names(c: apsw.Connection, identity: SpiffeId) -> tuple[str, ...]:
    return tuple(str(row[0]) for row in c.execute("SELECT name FROM names WHERE identity = ? ORDER BY name", (str(identity),)))


def _page(c: apsw.Connection, table: str, columns: str, convert: Callable[[Row], T], size: int, token: str) -> tuple[list[T], str]:
    """Return a page of ``table``, newest first. ``table`` and ``columns`` are constants of this module."""
    size = pages.page_size(size)
    after = pages.unseal(c, [table], token)
    below = int(str(after[0])) if after else 2**62
    rows = c.execute(
        f"SELECT {columns}, number FROM {table} WHERE number < ? ORDER BY number DESC LIMIT ?",  # noqa: S608 - constants
        (below, size + 1),
    ).fetchall()
    more = pages.seal(c, [table], [rows[size - 1][-1]]) if len(rows) > size else ""
    return [convert(row[:-1]) for row in rows[:size]], more


def _join_token(row: Row) -> JoinToken:
    token_id, description, identity, created, expires, used, used_by = row
    when = None if used is None else _time(used)
    return JoinToken(str(token_id), str(description), str(identity), _time(created), _time(expires), when, str(used_by))


def _certificate(row: Row) -> Issued:
    serial, identity, key_hash, start, expires, chain, revoked, reason, root = row
    when = None if revoked is None else _time(revoked)
    spiffe_id = parse_spiffe_id(str(identity))
    return Issued(str(serial), spiffe_id, cast("bytes", key_hash), _time(start), _time(expires), str(chain), when, str(reason), str(root))


def _api_token(row: Row) -> ApiToken:
    token_id, subject, roles, created, expires, revoked = row
    when = None if revoked is None else _time(revoked)
    chosen = tuple(Role[name] for name in str(roles).split(","))
    return ApiToken(str(token_id), str(subject), chosen, _time(created), _time(expires), when)


def _micros(time: datetime) -> int:
    return (time - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _time(micros: object) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=int(str(micros)))
