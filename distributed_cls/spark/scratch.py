"""The folder of Spark's temporary files, and the files in it that a session needs."""

import contextlib
import hashlib
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import distributed_cls
from distributed_cls.config import plugins
from distributed_cls.errors import UserError
from distributed_cls.spark.properties import GPU_SCRIPT, LOG4J_FILE
from distributed_cls.storage import replacing

# Java reads paths by the machine's locale and splits options at spaces and lists of folders at commas; URLs and shell
# scripts have special characters of their own. A path of these characters is read alike by all of them.
_PLAIN = re.compile(r"[A-Za-z0-9_./+=-]+")

# Prints the GPUs of a machine in the form that Spark's resource discovery reads.
_FIND_GPUS = """#!/bin/sh
printf '{"name": "gpu", "addresses": ["%s"]}\\n' \\
  "$(nvidia-smi --query-gpu=index --format=csv,noheader | paste -sd, - | sed 's/,/","/g')"
"""

# To the JVM's standard error, which is spark.log already: a file name would have to survive Java's reading of it.
_LOG4J = """status = error
rootLogger.level = warn
rootLogger.appenderRef.console.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss} %p %c{1}: %m%n%ex
"""


def make(folder: Path) -> Path:
    """Make ``folder``/.spark, or a new folder in the machine's temporary one when Java may misread that path."""
    scratch = folder / ".spark"
    if _PLAIN.fullmatch(str(scratch)):
        scratch.mkdir(parents=True, exist_ok=True)
        return scratch
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if _PLAIN.fullmatch(parent) and Path(parent).is_dir():
            return Path(tempfile.mkdtemp(prefix="distributed_cls-", dir=parent))
    raise UserError(
        "Expected a temporary folder whose path has only letters of A to Z, digits and . _ + = -. "
        f"Received: TMPDIR={tempfile.gettempdir()}. Set TMPDIR to another folder."
    )


@contextlib.contextmanager
def temporary_files_in(scratch: Path) -> Iterator[None]:
    """Within the block Python's temporary files are made in ``scratch``, which the next start in the run folder clears.

    PySpark makes a folder while Java starts; a driver that is killed meanwhile would leave it on the machine.
    """
    before, tempfile.tempdir = tempfile.tempdir, str(scratch)
    try:
        yield
    finally:
        tempfile.tempdir = before


def fill(scratch: Path) -> None:
    """Write the files that ``properties`` names: Log4j's settings and the script that lists GPUs."""
    with replacing(scratch / LOG4J_FILE) as temporary:
        temporary.write_text(_LOG4J, encoding="utf-8")
    with replacing(scratch / GPU_SCRIPT) as temporary:
        temporary.write_text(_FIND_GPUS, encoding="utf-8")
        temporary.chmod(0o755)


def package_zip(scratch: Path) -> Path:
    """This package and the plug-ins as a zip file: executors run the driver's code, whatever is installed there.

    Its name has a digest of its content: Spark keeps a file that it has got, and refuses another one of the same name.
    """
    package = Path(distributed_cls.__file__).parent
    files = {str(path.relative_to(package.parent)): path.read_bytes() for path in sorted(package.rglob("*.py"))}
    files |= {path.name: path.read_bytes() for path in plugins.files()}
    return write_zip(files, scratch)


def write_zip(files: dict[str, bytes], folder: Path) -> Path:
    """Write ``files`` (content by name) to ``folder``/distributed_cls-<digest of them>.zip."""
    digest = hashlib.sha256()
    for name, content in files.items():
        digest.update(f"{name}\0{len(content)}\0".encode() + content)
    target = folder / f"distributed_cls-{digest.hexdigest()[:12]}.zip"
    with replacing(target) as temporary, zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)  # the same bytes every time
    return target


def linked_home(home: Path, scratch: Path) -> Path:
    """A SPARK_HOME of links to ``home``'s content.

    The workers of a local-cluster write their applications' folders below SPARK_HOME, which is often installed for
    reading only, and which nobody would clean up.
    """
    linked = scratch / "spark-home"
    shutil.rmtree(linked, ignore_errors=True)
    linked.mkdir()
    for entry in home.iterdir():
        if entry.name != "work":
            (linked / entry.name).symlink_to(entry)
    return linked
