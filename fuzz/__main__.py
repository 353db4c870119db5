"""
``python -m fuzz TARGET [LIBFUZZER OPTIONS]``: look for findings until stopped, or for ``-max_total_time=SECONDS``.

New inputs that reach new code are kept in ``build/fuzz/TARGET``, from where a later run continues.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from fuzz import CORPUS, TARGETS

KEPT = Path("build", "fuzz")


def main() -> None:
    """Run one target; whatever is wrong with the command line is one line on stderr."""
    target, options = (sys.argv[1:2] or [""])[0], sys.argv[2:]
    if target not in TARGETS:
        sys.exit(f"usage: python -m fuzz TARGET [OPTION]...; TARGET is one of {', '.join(TARGETS)}")
    try:
        import atheris  # type: ignore[import-untyped, import-not-found, unused-ignore]
    except ImportError:
        sys.exit("python -m fuzz needs atheris: pip install atheris")
    with atheris.instrument_imports(include=["rapidrtmp", "fuzz"]):
        run = importlib.import_module(f"fuzz.{target}").run
    kept = KEPT / target
    kept.mkdir(parents=True, exist_ok=True)
    folders = [str(kept), str(CORPUS / target)]
    atheris.Setup([sys.argv[0], f"-artifact_prefix={CORPUS / target}/", *options, *folders], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
