"""The gateway's own rules, without Envoy and without sockets."""
