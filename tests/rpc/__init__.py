"""Each RPC over a real server in this process."""
