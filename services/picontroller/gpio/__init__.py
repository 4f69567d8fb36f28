"""The GPIO manager: which line of which Pi is in whose use, what it should be and what it is seen to be.

Owns the resources, one for a line at most, and the epochs that fence their owners; turns what agents tell of their lines into events.
Does not own the hardware (each node's agent does, and it alone knows what a line may never do) nor the list of nodes (discovery does).
"""
