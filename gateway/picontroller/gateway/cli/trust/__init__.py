"""Trust at the command line: certificates, tokens, the way to a new root, and the user's own files. Owns no output of other nouns."""
