"""Mutated requests by the thousand against a running control plane: whatever comes in, nothing breaks, leaks, or grows.

``make test`` runs a small campaign, ``make fuzz`` the long one. The seed is printed, and PICONTROLLER_FUZZ_SEED brings a run back (but for
what depends on the order in which answers arrive); every request that failed is kept below ``build/fuzz`` as it was sent.
"""
