"""What Envoy can't do by itself: WebSocket, pages, readiness, token keys, reflection.

Reached through Envoy only, over Unix sockets that nobody but this user may open.
"""
