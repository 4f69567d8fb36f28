"""Becoming a member: join tokens, the root that they name, the first certificate, and what is remembered of it all."""
