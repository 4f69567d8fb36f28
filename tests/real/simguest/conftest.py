"""One guest for all tests of this folder, booted when the first asks; each makes chips of its own."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real.simguest import image, wheels
from tests.real.simguest.guest import SimGuest
from tests.real.simguest.image import SimImage, SimImageSpec


@pytest.fixture(scope="package")
def sim_image() -> SimImage:
    with tempfile.TemporaryDirectory() as folder:
        wheel = wheels.of_this_tree(Path(folder))
        return image.build(SimImageSpec(wheels.requirements_of(wheel, ("agent",)), (wheel,)))


@pytest.fixture(scope="package")
def sim_guest(sim_image: SimImage) -> Iterator[SimGuest]:
    with SimGuest(sim_image) as guest:
        print(f"booted in {guest.boot_seconds:.1f} s")
        yield guest
