"""Hosts services: all in one process with the gateway (``pictl up``), or one a process (``pictl serve NAME``).

Owns the list of services, the layout of the data folder and the process entries of ``pictl``; it holds no logic of any service.
"""
