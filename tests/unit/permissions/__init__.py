"""Permissions and proofs without servers."""
