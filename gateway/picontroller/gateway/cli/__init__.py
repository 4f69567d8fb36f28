"""The command line for people: ``pictl <noun> <verb>``. It speaks gRPC to the gateway and knows the wire and core, no service.

Data goes to standard output, everything else to standard error; what each exit status means is in ``core.exits``.
"""
