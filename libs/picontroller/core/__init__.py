"""What every process shares, the agent included: errors, settings, time, tasks, RPC, storage and TLS.

Core knows no service. Whatever speaks of nodes, pins or tokens belongs to the service that owns the noun.
"""
