"""``python -m picontroller.events`` is ``pictl serve events``."""

from picontroller.host.commands import serve_main

serve_main("events")
