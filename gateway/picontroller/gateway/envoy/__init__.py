"""Envoy as a child process: its configuration, its life, its log. Everything that is particular to Envoy stays in here."""
