"""One suite a port, run by its fake and by what stands behind it in earnest."""
