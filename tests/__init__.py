"""Tests; see CONTRIBUTING.md for which folder holds what."""
