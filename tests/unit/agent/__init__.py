"""The agent as a process, piece by piece: no sockets, no sleep."""
