"""Every call to a peer goes through core.rpc.mesh, which gives it a deadline."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("services", "agent", "gateway/picontroller/gateway/bridge", "libs/picontroller/core")


def test_stubs_when_used_are_never_called_directly() -> None:
    found, stubs = [], 0
    for folder in FOLDERS:
        for path in (ROOT / folder).rglob("*.py"):
            tree = ast.parse(path.read_text())
            for node in ast.walk(tree):
                if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2].endswith("Stub"):
                    stubs += 1
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                    target = ast.unparse(node.func.value)
                    calls_stub = target == "stub" or target.endswith(("_stub", "Stub"))
                    has_deadline = any(keyword.arg == "timeout" for keyword in node.keywords)
                    if calls_stub and node.func.attr[0].isupper() and not has_deadline:
                        found.append(f"{path.relative_to(ROOT)}:{node.lineno}")
    assert stubs >= 8
    assert found == []
