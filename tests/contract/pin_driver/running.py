"""Running the cases that a rig can have, and saying how many those were."""

import traceback
from dataclasses import dataclass, field

from tests.contract.pin_driver import board, holding, lines, outside  # noqa: F401 - they register their cases
from tests.contract.pin_driver.suite import CASES, Registered, Rig


@dataclass
class Report:
    """What came of a run."""

    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, list[str]] = field(default_factory=dict)

    def counts(self) -> dict[str, int]:
        return {"passed": len(self.passed), "failed": len(self.failed), "left_out": len(self.left_out), "all": len(CASES)}


def fits(registered: Registered, rig: Rig) -> bool:
    return registered.needs <= rig.capabilities


async def run(rig: Rig) -> Report:
    """Run all cases that fit, each to its end whatever happened to those before."""
    report = Report()
    for registered in CASES:
        if not fits(registered, rig):
            report.left_out[registered.name] = sorted(registered.needs - rig.capabilities)
            continue
        try:
            await registered.run(rig)
        except Exception:
            report.failed[registered.name] = traceback.format_exc()
        else:
            report.passed.append(registered.name)
    return report
