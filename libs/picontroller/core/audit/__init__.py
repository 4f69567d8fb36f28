"""The audit log's nouns: what a record says, how records are chained, and how they wait until they are on disk.

Nothing here knows gRPC or SQL, so that servicers, the command line and tests verify a chain with the same few lines.
"""
