"""Agents of other releases against this control plane, as real processes from trees of their own."""
