"""What setup.py asks for, read without running it."""

import ast
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


@cache
def _arguments() -> dict[str, ast.expr]:
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (call,) = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "setup")
    return {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}


def required() -> list[str]:
    """What policyd can't start without."""
    requirements: list[str] = ast.literal_eval(_arguments()["install_requires"])
    return requirements


def extras() -> dict[str, list[str]]:
    """What each extra adds."""
    found: dict[str, Any] = ast.literal_eval(_arguments()["extras_require"])
    return found
