"""The chain that every call passes, outermost first.

Request id, log, metrics, errors, audit, caller, authorisation, limits, deadline, validation; ``core.rpc.hosting.chain`` puts it together.
Each interceptor is composed around a method once, when the server is built, so that a call costs a few nested coroutines instead of
nine handler look-ups (gRPC's own interceptors are asked anew for every call).
"""
