"""Identity: the certificate authority of the mesh.

Owns the authority's keys, join tokens, the list of certificates it issued, and API tokens. It does not own nodes, services or people: an
identity is only a name here, and what a name may do is decided by each service from the roles in its proof.
"""
