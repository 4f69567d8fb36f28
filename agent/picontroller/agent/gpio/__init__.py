"""GPIO on this board: the table of lines in use, what is done with them, what happens on them, and the drivers that reach the hardware.

Owns: which lines are in use and how, their fencing epochs, their safe states, the sequence of events. Does not own: who may use which line
and what it should be (the GPIO manager), nor buses such as I2C.
"""
