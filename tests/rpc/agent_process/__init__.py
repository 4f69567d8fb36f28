"""The agent as a process: joined, serving and reporting against a fake control plane over real TLS."""
