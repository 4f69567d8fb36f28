"""The event bus. Owns the journal: the one order of all events, its cursors, what is kept of it and for how long.

Does not own the meaning of any event, nor the changes that events tell of: those are in the services that publish them.
"""
