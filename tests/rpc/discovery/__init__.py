"""Discovery's methods over a real server."""
