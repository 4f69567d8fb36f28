"""How members talk: one server anatomy, one chain of interceptors, one way to call a peer, one table of errors."""
