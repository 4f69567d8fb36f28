"""Debian amd64 packages, through the same private apt configuration that the emulated Pi has for arm64.

The guest is of the machine's release; the kernel's source is bookworm's, which is what the configuration was made for.
"""

from collections.abc import Sequence
from pathlib import Path

from tests.real.pi3b import debian
from tests.real.pi3b.faults import HarnessError

SOURCE = "linux-source-6.1"
"""Debian's package of the kernel's source: one archive below usr/src."""

PACKAGES = debian.PACKAGES
PYTHON = debian.PYTHON


class Apt(debian.Apt):
    """apt-get and apt-cache for amd64 with all their state under one folder."""

    def fetch(self, packages: Sequence[str], into: Path) -> list[Path]:
        """Download the newest of each package; the files, in the order of the packages."""
        try:
            return super().fetch(packages, into)
        except debian.MissingPackageError as error:
            raise debian.MissingPackageError(str(error).replace("arm64", "amd64")) from error
        except HarnessError as error:
            raise HarnessError(str(error).replace("arm64", "amd64")) from error

    def _configure(self) -> None:
        super()._configure()
        self._conf.write_text(self._conf.read_text().replace("arm64", "amd64"))
