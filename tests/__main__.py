"""
``python -m tests``: the unit tests under trial, which is every test but ``tests.e2e``.

Arguments go to trial; if they name tests, only those run.
"""

import sys
from pathlib import Path

from twisted.scripts.trial import run

HERE = Path(__file__).parent


def unit_tests() -> list[str]:
    """Every test module and package here, except the end-to-end ones, as trial wants them named."""
    packages = [path.parent.name for path in HERE.glob("*/__init__.py") if path.parent.name != "e2e"]
    modules = [path.stem for path in HERE.glob("test_*.py")]
    return [f"tests.{name}" for name in sorted(packages + modules)]


if __name__ == "__main__":
    if not any(argument.startswith("tests") for argument in sys.argv[1:]):
        sys.argv += unit_tests()
    sys.argv[0] = "trial"
    run()
