"""Discovery's rules over fakes."""
