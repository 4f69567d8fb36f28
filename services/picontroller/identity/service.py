# ruff: noqa: N802 - methods are named as in the proto
"""IdentityService as a gRPC servicer: unpacks, calls, packs."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any, Protocol

from google.protobuf import empty_pb2

from picontroller.core import callers
from picontroller.identity import messages
from picontroller.identity.api_tokens import ApiToken
from picontroller.identity.authority import Issued
from picontroller.identity.join_tokens import JoinToken
from picontroller.identity.registry import Registry
from picontroller.identity.revocation.news import News
from picontroller.identity.revocation.revoking import Revocations
from picontroller.identity.rotation.rotating import Rotation
from picontroller.v1 import identity_pb2 as pb
from picontroller.v1 import identity_pb2_grpc, trust_pb2


class Listings(Protocol):
    """What can be listed: pages, newest first, each with the token of the next."""

    async def join_tokens(self, size: int, token: str) -> tuple[list[JoinToken], str]:
        """Return a page of join tokens."""
        ...

    async def certificates(self, size: int, token: str) -> tuple[list[Issued], str]:
        """Return a page of certificates."""
        ...

    async def api_tokens(self, size: int, token: str) -> tuple[list[ApiToken], str]:
        """Return a page of API tokens."""
        ...


class IdentityServicer(identity_pb2_grpc.IdentityServiceServicer):
    """Serves a registry, the listings of what it made, revocations and the news of them, and the steps to a new root."""

    def __init__(self, registry: Registry, listings: Listings, revocations: Revocations, news: News, rotation: Rotation) -> None:
        self._registry = registry
        self._listings = listings
        self._revocations = revocations
        self._news = news
        self._rotation = rotation

    async def CreateJoinToken(self, request: pb.CreateJoinTokenRequest, context: Any) -> pb.JoinToken:
        """Make a join token and show it."""
        ttl = messages.ttl_from(request.ttl)
        token, text = await self._registry.create_join_token(request.description, ttl, request.node_id, request.service)
        return messages.join_token_to(token, text)

    async def ListJoinTokens(self, request: pb.ListJoinTokensRequest, context: Any) -> pb.ListJoinTokensResponse:
        """Answer a page of join tokens."""
        found, more = await self._listings.join_tokens(request.page_size, request.page_token)
        return pb.ListJoinTokensResponse(tokens=map(messages.join_token_to, found), next_page_token=more)

    async def RevokeJoinToken(self, request: pb.RevokeJoinTokenRequest, context: Any) -> empty_pb2.Empty:
        """Make an unused token worthless."""
        await self._registry.revoke_join_token(request.id)
        return empty_pb2.Empty()

    async def IssueCertificate(self, request: pb.IssueCertificateRequest, context: Any) -> pb.IssuedCertificate:
        """Turn a join token into an identity."""
        issued = await self._registry.join(request.token, request.csr_pem)
        return messages.issued_to(issued, self._registry.trust)

    async def RenewCertificate(self, request: pb.RenewCertificateRequest, context: Any) -> pb.IssuedCertificate:
        """Answer a new certificate for the caller's identity."""
        issued = await self._registry.renew(callers.current(), request.csr_pem, request.san, request.identity)
        return messages.issued_to(issued, self._registry.trust)

    async def ListCertificates(self, request: pb.ListCertificatesRequest, context: Any) -> pb.ListCertificatesResponse:
        """Answer a page of certificates."""
        found, more = await self._listings.certificates(request.page_size, request.page_token)
        return pb.ListCertificatesResponse(certificates=map(messages.certificate_to, found), next_page_token=more)

    async def GetTrustBundle(self, request: trust_pb2.GetTrustBundleRequest, context: Any) -> trust_pb2.TrustBundle:
        """Answer what to believe."""
        return messages.trust_to(self._registry.trust)

    async def WatchTrust(self, request: trust_pb2.WatchTrustRequest, context: Any) -> AsyncIterator[trust_pb2.WatchTrustResponse]:
        """Answer what the caller lacks, then what changes."""
        async with aclosing(self._news.listen(request.version, request.denials_version)) as news:
            async for tidings in news:
                yield messages.tidings_to(tidings)

    async def AcknowledgeTrust(self, request: trust_pb2.AcknowledgeTrustRequest, context: Any) -> empty_pb2.Empty:
        """Take note of what the caller believes."""
        await self._rotation.acknowledge(callers.current(), request.version, request.identity)
        return empty_pb2.Empty()

    async def RevokeCertificate(self, request: trust_pb2.RevokeCertificateRequest, context: Any) -> trust_pb2.RevokeCertificateResponse:
        """Make a certificate, or all that an identity has, worthless."""
        if request.WhichOneof("target") == "serial":
            return messages.revoked_to(await self._revocations.certificate(callers.current(), request.serial, request.reason))
        caller, path = callers.current(), request.identity
        before = messages.time_from(request.issued_before, "issued_before") if request.HasField("issued_before") else None
        revoked = await self._revocations.identity(caller, path, request.reason, may_return=request.may_return, issued_before=before)
        return messages.revoked_to(revoked)

    async def GetAuthority(self, request: trust_pb2.GetAuthorityRequest, context: Any) -> trust_pb2.Authority:
        """Answer the state of the authority."""
        return messages.authority_to(await self._rotation.standing())

    async def RotateAuthority(self, request: trust_pb2.RotateAuthorityRequest, context: Any) -> trust_pb2.Authority:
        """Take the next step towards a new root."""
        step = messages.step_from(request.step)
        return messages.authority_to(await self._rotation.take(step, force=request.force))

    async def RevokeApiToken(self, request: pb.RevokeApiTokenRequest, context: Any) -> empty_pb2.Empty:
        """Make an API token worthless."""
        await self._revocations.api_token(request.id)
        return empty_pb2.Empty()

    async def CreateApiToken(self, request: pb.CreateApiTokenRequest, context: Any) -> pb.ApiToken:
        """Make an API token and show it."""
        roles, ttl = messages.roles_from(request.roles), messages.ttl_from(request.ttl)
        token, text = await self._registry.create_api_token(request.subject, roles, ttl)
        return messages.api_token_to(token, text)

    async def ListApiTokens(self, request: pb.ListApiTokensRequest, context: Any) -> pb.ListApiTokensResponse:
        """Answer a page of API tokens."""
        found, more = await self._listings.api_tokens(request.page_size, request.page_token)
        return pb.ListApiTokensResponse(api_tokens=map(messages.api_token_to, found), next_page_token=more)

    async def WhoAmI(self, request: pb.WhoAmIRequest, context: Any) -> pb.Principal:
        """Answer who calls."""
        return messages.principal_to(callers.current())
