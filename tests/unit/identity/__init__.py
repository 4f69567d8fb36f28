"""The identity service's domain without sockets, disk or sleep."""
