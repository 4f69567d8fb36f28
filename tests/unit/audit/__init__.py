"""The audit log's chain and trail, over nothing but memory."""
