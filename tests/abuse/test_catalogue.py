"""Every promised item of the catalogue has a test, and none of them is skipped."""

import ast
import re
from pathlib import Path

from tests.abuse.catalogue import PROMISED

TESTS = Path(__file__).resolve().parents[1]


def items_shown() -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            match = re.match(r"test_abuse_(\d+)_", node.name)
            if match:
                marks = {ast.unparse(decorator) for decorator in node.decorator_list}
                assert not any("skip" in mark or "xfail" in mark for mark in marks), f"{path.name}: {node.name} is not always run"
                found.setdefault(int(match[1]), []).append(node.name)
    return found


def test_catalogue_when_compared_with_the_tests_misses_nothing() -> None:
    shown = items_shown()
    missing = {number: PROMISED[number] for number in PROMISED if number not in shown}
    assert not missing, "items without a test:\n" + "\n".join(f"  {number}. {text}" for number, text in missing.items())


def test_catalogue_lists_everything_that_is_shown() -> None:
    assert set(items_shown()) <= set(PROMISED)
