"""The event bus over its real server."""
