"""The version of the distribution, read from its metadata so that it is written down once (in pyproject.toml)."""

from importlib import metadata


def version() -> str:
    """Return the installed version, for example ``0.1.0``; ``unknown`` where the sources run without having been installed."""
    try:
        return metadata.version("picontroller")
    except metadata.PackageNotFoundError:
        return "unknown"
