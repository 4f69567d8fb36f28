"""The agent's GPIO domain over simulated hardware and a clock that tests move: no sockets, no disk, no waiting."""
