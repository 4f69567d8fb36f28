"""The event bus's ports."""
