"""One fake for each port, and the throw-away authority that tests get identities from."""
