"""Entry of ``python -m picontroller.gpio``: the GPIO manager in a process of its own."""

from picontroller.host.commands import serve_main

serve_main("gpio")
