"""NodeAgentService over a real server with mutual TLS, on simulated hardware."""
