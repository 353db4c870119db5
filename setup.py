"""
What RapidRTMP is to pip; also fetches the player library at build time, where npm is at hand.

With ``RAPIDRTMP_COMPILE=1`` in the environment, a C compiler and the headers of Python, the modules that every message
of a publish goes through are compiled (``rapidrtmp/support/compiled.py`` lists them); it takes two to four minutes of
one processor. Else, or where that fails, they are installed as plain Python and do the same.
"""

from __future__ import annotations

import base64
import hashlib
import os
import runpy
import shutil
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from setuptools import Distribution, Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.command.build_py import build_py
from setuptools.errors import BaseError

ROOT = Path(__file__).resolve().parent
STATIC = ROOT / "rapidrtmp" / "web" / "static"
PIN = runpy.run_path(str(ROOT / "rapidrtmp" / "http" / "hlsjs.py"))
COMPILED = runpy.run_path(str(ROOT / "rapidrtmp" / "support" / "compiled.py"))
COMPILER = ["mypy[mypyc]>=2.3"]
#: For mypyc. The types of what is imported are of no matter here, and it may not be at hand; tox checks them.
CHECKS = ["--config-file=", "--python-version=3.11", "--follow-imports=silent", "--ignore-missing-imports"]
#: How long to wait for the registry to answer at all, and for the download.
NETWORK_TIMEOUT_S = 8
NPM_TIMEOUT_S = 120
#: Its own pause before another attempt is 10 s or more.
NO_RETRY = "--fetch-retries=0"


class BuildWithPlayer(build_py):
    """
    Puts ``hls.min.js`` beside the player page before the package is built.

    Without npm or a network the build continues: the page then loads the same file from a CDN.
    """

    def run(self) -> None:
        """Fetch the library if it is not there yet; build."""
        target = STATIC / PIN["FILE_NAME"]
        if not _is_pinned(target):
            try:
                _fetch(target)
            except (OSError, subprocess.SubprocessError) as error:
                self.announce(f"hls.js is not packaged, the player page will use a CDN: {error}", level=3)
        super().run()


class MaybeCompiled(Distribution):
    """The package, which has something to compile where that is asked for and can be done."""

    def has_ext_modules(self) -> bool:
        """Whether it is, so that a wheel is one for this machine."""
        return _is_to_compile()


class Compile(build_ext):
    """Compiles what may be; nothing, where it does not work."""

    def finalize_options(self) -> None:
        """Put it off: which extensions there are is known when they are to be built, and others only ask."""
        self.extensions = []

    def run(self) -> None:
        """Translate to C, then compile: all of it or nothing."""
        try:
            self.distribution.ext_modules = _translated()
            super().finalize_options()
            self.parallel = self.parallel or os.cpu_count()
            super().run()
        except (ImportError, SystemExit, BaseError) as error:
            self.extensions = self.distribution.ext_modules = []
            self.announce(f"not compiled, it is installed as plain Python: {error}", level=3)


def _is_to_compile() -> bool:
    if os.environ.get("RAPIDRTMP_COMPILE", "0") in ("", "0"):
        return False
    compiler = (sysconfig.get_config_var("CC") or "cc").split()[0]
    return shutil.which(compiler) is not None and Path(sysconfig.get_path("include"), "Python.h").is_file()


def _translated() -> list[Extension]:
    from mypyc.build import mypycify

    files = [str(path.relative_to(ROOT)) for path in COMPILED["modules"](ROOT / "rapidrtmp")]
    extensions: list[Extension] = mypycify([*CHECKS, *files], opt_level="1", debug_level="0", multi_file=True)
    return extensions


def _fetch(target: Path) -> None:
    installed = Path("node_modules", "hls.js", "dist", "hls.min.js")
    if _is_pinned(ROOT / installed):
        _copy(ROOT / installed, target)
        return
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("npm is not on the PATH")
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("package.json", "package-lock.json"):
            shutil.copy(ROOT / name, scratch)
        subprocess.run([npm, "ping", NO_RETRY], cwd=scratch, capture_output=True, timeout=NETWORK_TIMEOUT_S)
        command = [npm, "ci", NO_RETRY, "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(command, cwd=scratch, check=True, capture_output=True, timeout=NPM_TIMEOUT_S)
        if not _is_pinned(Path(scratch, installed)):
            raise OSError("what npm brought is not the pinned file")
        _copy(Path(scratch, installed), target)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def _is_pinned(path: Path) -> bool:
    """Whether the file is there and is, to the last byte, the one whose hash the page names."""
    if not path.is_file():
        return False
    digest = base64.b64encode(hashlib.sha384(path.read_bytes()).digest()).decode("ascii")
    return f"sha384-{digest}" == PIN["INTEGRITY"]


def _read_me() -> str:
    path = ROOT / "README.md"
    return path.read_text("utf-8") if path.exists() else ""


GCS = ["google-cloud-storage>=2.14"]
HTTP2 = ["Twisted[http2]"]
JWT = ["PyJWT[crypto]>=2.8"]
REDIS = ["txredisapi>=1.6"]
USERS = ["argon2-cffi>=23.1"]
TRANSCODE = ["imageio-ffmpeg>=0.5"]
AV = ["av>=12", "numpy>=1.26"]
TEST = [
    "hypothesis>=6.100",
    "tox>=4.11",
    "ruff",
    *COMPILER,
    "mypy-zope",
    "setuptools>=77",  # Python 3.12 brings none
    "types-setuptools",
    *HTTP2,
    *JWT,
    *USERS,
    *REDIS,
    "jsonschema",
    "PyYAML",
    "kubernetes-validate",
    "pyhamcrest",
]
DOCS = ["sphinx>=8", "myst-parser>=4", "furo", "towncrier>=23.11", *JWT, *USERS, *REDIS]
E2E = [*TEST, "pip", *AV, "gcp-storage-emulator", "selenium>=4.20"]

setup(
    name="rapidrtmp",
    version="0.1.0",
    description="A live media server on Twisted: RTMP in, low-latency HLS out, everything between is a plugin",
    long_description=_read_me(),
    long_description_content_type="text/markdown",
    license="MIT",
    license_files=["LICENSE"],
    author="RapidRTMP contributors",
    keywords=["live streaming", "media server", "rtmp", "enhanced rtmp", "hls", "ll-hls", "cmaf", "twisted"],
    classifiers=[
        "Development Status :: 4 - Beta",
        "Framework :: Twisted",
        "Intended Audience :: System Administrators",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Topic :: Multimedia :: Sound/Audio",
        "Topic :: Multimedia :: Video",
        "Typing :: Typed",
    ],
    python_requires=">=3.11",
    install_requires=[
        "Twisted[tls]>=24.7",
        "klein>=24.8",
        "zope.interface>=6.0",
        "treq>=24.9",
        "prometheus-client>=0.20",
        "httptools>=0.6",
        "pymp4>=1.4",
        "attrs>=23.2",
        "cryptography>=42",
        "segno>=1.6",
    ],
    extras_require={
        "gcs": GCS,
        "http2": HTTP2,
        "jwt": JWT,
        "redis": REDIS,
        "users": USERS,
        "transcode": TRANSCODE,
        "av": AV,
        "test": TEST,
        "e2e": E2E,
        "docs": DOCS,
        "dev": [*E2E, *GCS, *TRANSCODE, *DOCS],
        "fuzz": ["atheris"],
    },
    packages=[*find_packages(str(ROOT), include=["rapidrtmp", "rapidrtmp.*"]), "twisted.plugins"],
    package_data={"rapidrtmp": ["py.typed", "web/static/*"]},
    entry_points={"console_scripts": ["rapidrtmp = rapidrtmp.cli:main"]},
    cmdclass={"build_py": BuildWithPlayer, "build_ext": Compile},
    distclass=MaybeCompiled,
    setup_requires=COMPILER if _is_to_compile() else [],
    zip_safe=False,
)
