"""What Envoy can't do by itself: WebSocket, pages, readiness, token keys, reflection. Reached through Envoy only, over Unix sockets of this user."""
