"""The host without a process: what it says and refuses."""
