"""``python -m picontroller.gateway`` is ``pictl serve gateway``."""

from picontroller.host.commands import serve_main

serve_main("gateway")
