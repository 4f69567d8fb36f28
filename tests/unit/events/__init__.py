"""The event bus's domain over a store in memory."""
