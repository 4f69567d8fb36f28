"""What the harness raises; every message names the thing that lacks and what to do about it."""


class HarnessError(RuntimeError):
    """The emulated Pi could not be built, started or spoken to; a test that sees it has proved nothing about the product."""
