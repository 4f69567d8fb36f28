"""The gateway with a real Envoy in front of fake services."""
