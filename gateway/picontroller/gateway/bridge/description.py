"""The description of the REST API: like everything below ``/api`` it needs a login, whatever the caller's role."""

from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from picontroller.core.errors import Unauthenticated
from picontroller.core.rpc import errors as rpc_errors
from picontroller.core.rpc.forwarding import ForwardedProofs
from picontroller.core.tls.identity import IdentityFolder
from picontroller.gateway.envoy.routes import DESCRIPTION

FILE = Path(__file__).parent.parent / "openapi" / "openapi.json"


@dataclass(frozen=True)
class Description:
    """The answer. ``edge`` knows which proofs are refused, ``proofs`` verifies them."""

    edge: IdentityFolder
    proofs: ForwardedProofs

    def routes(self) -> list[BaseRoute]:
        """Return the route to it."""
        return [Route(DESCRIPTION, self.answer, methods=["GET"])]

    async def answer(self, request: Request) -> Response:
        """Answer the description, or 401."""
        try:
            caller = self.proofs.caller(request.headers)
            if caller is None:
                raise Unauthenticated("give a client certificate or a token", reason="CREDENTIALS_MISSING")
            if self.edge.denials.holds(caller):
                raise Unauthenticated(f"the {caller.method} was revoked", reason="PROOF_REVOKED")
        except Unauthenticated as error:
            info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": error.reason, "domain": rpc_errors.DOMAIN}
            return JSONResponse({"code": 16, "message": error.message, "details": [info]}, 401)
        return FileResponse(FILE, media_type="application/json")
