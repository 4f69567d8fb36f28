"""Who may call what: the matrix of methods and callers, written by hand and compared with what running servers answer."""
