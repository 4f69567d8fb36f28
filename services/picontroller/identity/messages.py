"""Protobuf messages of the identity service from and to its domain."""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta

from google.protobuf import duration_pb2, timestamp_pb2

from picontroller.core.callers import Caller, Role
from picontroller.core.errors import InvalidArgument, Violation
from picontroller.core.tls.identity import Trust
from picontroller.identity.api_tokens import ApiToken
from picontroller.identity.authority import Issued
from picontroller.identity.join_tokens import JoinToken
from picontroller.identity.revocation.news import Tidings
from picontroller.identity.revocation.revoking import Revoked
from picontroller.identity.rotation.rotating import Member, Standing, Step
from picontroller.v1 import identity_pb2, options_pb2, trust_pb2

_LAST_MOMENT = datetime(9999, 12, 31, tzinfo=UTC)


def ttl_from(message: duration_pb2.Duration) -> timedelta | None:
    """Return a time to live, None when it was not given."""
    return message.ToTimedelta() or None


def roles_from(values: Iterable[int]) -> tuple[Role, ...]:
    """Return roles by their numbers."""
    return tuple(Role(value) for value in values)


def roles_to(roles: Iterable[Role]) -> "list[options_pb2.Role.Value.ValueType]":
    """Return roles as numbers, in their order."""
    return [options_pb2.Role.Value.Value(role.name) for role in sorted(roles, key=lambda role: role.value)]


def time_from(moment: timestamp_pb2.Timestamp, field: str) -> datetime:
    """Return a point in time. Raises InvalidArgument naming ``field`` for one beyond the years 1 to 9999."""
    try:
        return moment.ToDatetime(UTC)
    except (ValueError, OverflowError) as error:
        violation = Violation(field, "must lie within the years 1 to 9999")
        raise InvalidArgument(f"{field} is no point in time", reason="VALIDATION_FAILED", violations=[violation]) from error


def time_to(moment: datetime) -> timestamp_pb2.Timestamp:
    """Return a moment as a timestamp."""
    found = timestamp_pb2.Timestamp()
    found.FromDatetime(moment)
    return found


def join_token_to(token: JoinToken, text: str = "") -> identity_pb2.JoinToken:
    """Return a join token, with its text only for its maker."""
    return identity_pb2.JoinToken(
        id=token.id,
        token=text,
        description=token.description,
        identity=token.identity,
        create_time=time_to(token.created),
        expire_time=time_to(token.expires),
        use_time=time_to(token.used) if token.used else None,
        used_by=token.used_by,
    )


def trust_to(trust: Trust) -> trust_pb2.TrustBundle:
    """Return what members are to believe."""
    return trust_pb2.TrustBundle(
        version=trust.version,
        trust_domain=trust.trust_domain,
        roots_pem=trust.roots_pem.decode(),
        jwks_json=trust.jwks_json,
        active_root=trust.active_root,
        renew_now=trust.renew_now,
    )


def tidings_to(tidings: Tidings) -> trust_pb2.WatchTrustResponse:
    """Return what changed."""
    return trust_pb2.WatchTrustResponse(
        trust_bundle=trust_to(tidings.trust) if tidings.trust else None,
        denials=(
            trust_pb2.Denial(proof=denial.proof, expire_time=time_to(datetime.fromtimestamp(denial.expires, UTC)))
            for denial in tidings.denials
        ),
        denials_version=tidings.denials_version,
    )


def step_from(value: int) -> Step:
    """Return a step by its number."""
    return Step(value)


def authority_to(standing: Standing) -> trust_pb2.Authority:
    """Return the state of the authority."""
    return trust_pb2.Authority(
        state=trust_pb2.AuthorityState.Value.Value(standing.state.name),
        active_root=standing.active_root,
        roots=standing.roots,
        trust_version=standing.trust_version,
        stragglers=map(_straggler_to, standing.stragglers),
        absent=map(_straggler_to, standing.absent),
    )


def _straggler_to(member: Member) -> trust_pb2.Straggler:
    return trust_pb2.Straggler(
        spiffe_id=str(member.identity),
        trust_version=member.version,
        root=member.root,
        last_seen=time_to(member.seen) if member.seen else None,
    )


def revoked_to(revoked: Revoked) -> trust_pb2.RevokeCertificateResponse:
    """Return what was revoked."""
    return trust_pb2.RevokeCertificateResponse(serials=revoked.serials, api_tokens=revoked.api_tokens)


def issued_to(issued: Issued, trust: Trust) -> identity_pb2.IssuedCertificate:
    """Return a fresh identity."""
    return identity_pb2.IssuedCertificate(
        certificate_chain_pem=issued.chain_pem,
        trust_bundle=trust_to(trust),
        spiffe_id=str(issued.identity),
        node_id=issued.identity.name if issued.identity.kind == "node" else "",
        serial=issued.serial,
        expire_time=time_to(issued.expires),
    )


def certificate_to(issued: Issued) -> identity_pb2.Certificate:
    """Return what is shown of a certificate that was issued."""
    return identity_pb2.Certificate(
        serial=issued.serial,
        spiffe_id=str(issued.identity),
        start_time=time_to(issued.start),
        expire_time=time_to(issued.expires),
        revoke_time=time_to(issued.revoked) if issued.revoked else None,
        revoke_reason=issued.revoke_reason,
        root=issued.root,
    )


def api_token_to(token: ApiToken, text: str = "") -> identity_pb2.ApiToken:
    """Return an API token, with its text only for its maker."""
    return identity_pb2.ApiToken(
        id=token.id,
        token=text,
        subject=token.subject,
        roles=roles_to(token.roles),
        create_time=time_to(token.created),
        expire_time=time_to(token.expires),
        revoke_time=time_to(token.revoked) if token.revoked else None,
    )


def principal_to(caller: Caller) -> identity_pb2.Principal:
    """Return a caller as the mesh sees it."""
    end = min(datetime.fromtimestamp(min(caller.expires, _LAST_MOMENT.timestamp()), UTC), _LAST_MOMENT)
    return identity_pb2.Principal(spiffe_id=caller.principal, roles=roles_to(caller.roles), method=caller.method, expire_time=time_to(end))
