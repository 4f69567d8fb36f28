"""Plain HTTP answers that need no login: the page at ``/``, the root certificate, liveness, readiness, and (for Envoy only) token keys.

The page comes whole from this package: it loads nothing from elsewhere, and its policy forbids it to.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from picontroller.core.tls.identity import IdentityFolder
from picontroller.core.version import version
from picontroller.gateway.bridge.readiness import Readiness

WEB = Path(__file__).parent.parent / "web"
ASSETS = {"app.js": "text/javascript", "style.css": "text/css", "icon.svg": "image/svg+xml"}
PAGE_HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "cache-control": "no-cache",
}

Answer = Callable[[Request], Awaitable[Response]]


@dataclass(frozen=True)
class Pages:
    """The answers. ``edge`` holds what is believed at the moment."""

    edge: IdentityFolder
    readiness: Readiness

    def routes(self) -> list[BaseRoute]:
        """Return the routes to the answers."""
        table: dict[str, Answer] = {
            "/": self.page,
            "/assets/{name}": self.asset,
            "/ca.pem": self.authority,
            "/healthz": self.live,
            "/readyz": self.ready,
            "/jwks.json": self.keys,
        }
        return [Route(path, answer, methods=["GET"]) for path, answer in table.items()]

    async def page(self, request: Request) -> Response:
        """Answer the page."""
        return FileResponse(WEB / "index.html", headers=PAGE_HEADERS, media_type="text/html; charset=utf-8")

    async def asset(self, request: Request) -> Response:
        """Answer one of the page's files; no other file can be named."""
        name = request.path_params["name"]
        if name not in ASSETS:
            return JSONResponse({"code": 5, "message": "there is no such file", "details": []}, 404)
        return FileResponse(WEB / name, headers=PAGE_HEADERS, media_type=ASSETS[name])

    async def authority(self, request: Request) -> Response:
        """Answer the root certificates; they are public, and useful only together with the fingerprint that ``pictl up`` prints."""
        return Response(self.edge.trust.roots_pem, media_type="application/x-pem-file")

    async def live(self, request: Request) -> Response:
        """Say that the gateway itself runs."""
        return JSONResponse({"live": True, "version": version()})

    async def ready(self, request: Request) -> Response:
        """Say whether everything serves, and what doesn't."""
        states = await self.readiness.services()
        ready = bool(states) and all(states.values())
        words = {name: "SERVING" if serves else "NOT_SERVING" for name, serves in states.items()}
        return JSONResponse({"ready": ready, "services": words}, 200 if ready else 503)

    async def keys(self, request: Request) -> Response:
        """Answer the public keys of API tokens. No route of Envoy's leads here: only Envoy itself asks."""
        return Response(self.edge.trust.jwks_json, media_type="application/json")
