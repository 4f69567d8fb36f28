"""The GPIO manager over real servers: each method, its errors, who may call it, what it tells."""
