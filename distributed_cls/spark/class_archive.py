"""Java's class data sharing (JEP 350) for Spark: its classes, read, checked and laid out once for a machine.

A driver's JVM spends half of its start on loading about ten thousand classes. With an archive of them, which it maps
into memory, Spark starts in half the time. Java itself refuses an archive of other jars, or of another Java, and then
starts without; so does every session where there is none. One that is cut short would crash it, so the name of an
archive has its size.
"""

import contextlib
import hashlib
import shutil
from pathlib import Path

from distributed_cls.spark.java import cache_folder
from distributed_cls.storage import replacing


def find(java_home: Path, spark_home: Path) -> Path | None:
    """The whole archive of this Java and this Spark; None where none has been made."""
    for archive in cache_folder().glob(f"{_name(java_home, spark_home)}-*.jsa"):
        with contextlib.suppress(FileNotFoundError):
            if archive.name.endswith(f"-{archive.stat().st_size}.jsa"):
                return archive
    return None


def keep(made: Path, java_home: Path, spark_home: Path) -> Path:
    """Put the archive ``made`` where ``find`` finds it."""
    archive = cache_folder() / f"{_name(java_home, spark_home)}-{made.stat().st_size}.jsa"
    archive.parent.mkdir(parents=True, exist_ok=True)
    with replacing(archive) as temporary:
        shutil.copyfile(made, temporary)
    return archive


def remove(spark_home: Path) -> None:
    """Remove the archives of this Spark, of whichever Java and release."""
    for archive in cache_folder().glob(f"{_prefix(spark_home)}-*.jsa"):
        archive.unlink(missing_ok=True)


def _name(java_home: Path, spark_home: Path) -> str:
    """It changes with Java and with every jar, as what Java compares does."""
    jars = sorted((jar.name, jar.stat().st_size, jar.stat().st_mtime_ns) for jar in spark_home.glob("jars/*.jar"))
    release = java_home / "release"
    java = release.read_bytes() if release.is_file() else b""
    return f"{_prefix(spark_home)}-{_digest(str(java_home), java, jars)}"


def _prefix(spark_home: Path) -> str:
    return f"spark-{_digest(str(spark_home))}"


def _digest(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]
