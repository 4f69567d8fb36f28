"""Proof of who we are, and trust in others: keys, certificates, roots, and the gRPC credentials made from them."""
