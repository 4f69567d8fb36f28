"""Domains without sockets, disk or sleep."""
