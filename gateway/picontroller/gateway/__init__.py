"""Every door for people and outside programs. Owns no data and has no authority: it carries its callers' proofs to the services.

``envoy`` is the front (HTTPS, REST, gRPC, limits), ``bridge`` what Envoy can't do (WebSocket, pages, readiness,
reflection), ``web`` the page. The services decide who may do what; nothing here grants anything.
"""
