"""Discovery's ports, each by its fake and by the real thing."""
