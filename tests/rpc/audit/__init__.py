"""The audit log of a real server over a Unix socket with mTLS."""
