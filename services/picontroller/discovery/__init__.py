"""The list of nodes: who they are, what they say of themselves, what people say of them, and whether they live.

Owns nodes. Does not own what runs on a node, its certificate, or its membership of a cluster beyond remembering the cluster's name: gpio,
identity and clusters do.
"""
