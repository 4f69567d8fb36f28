"""``python -m picontroller.identity``: this service in a process of its own."""

from picontroller.host.commands import serve_main

serve_main("identity")
