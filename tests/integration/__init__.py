"""Several services together, with real SQLite and Envoy, in one process and as one each."""
