"""The agent: one on each Pi, owner of that Pi's hardware.

Owns: the lines of its board and their safe states, what it found on the board, its identity, and how it presents itself to the control
plane. Does not own: who may use which line (the GPIO manager), the list of nodes (discovery), certificates (identity).
"""
