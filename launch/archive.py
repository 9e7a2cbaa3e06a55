"""This project as one file, for drivers that run on the cluster (``--deploy-mode cluster``)."""

from pathlib import Path

import distributed_cls
from distributed_cls.spark.java import cache_folder
from distributed_cls.spark.scratch import write_zip
from launch.composition import CONF

_KINDS = (".py", ".yaml", ".html", ".css", ".js", ".svg")


def write() -> Path:
    """Write distributed_cls, launch and conf to a zip file in the user's cache, named by its content; its path."""
    places = {"distributed_cls": Path(distributed_cls.__file__).parent, "launch": Path(__file__).parent}
    if not CONF.startswith("pkg://"):  # a checkout, which has it beside launch/
        places["conf"] = Path(CONF)
    files = {
        f"{name}/{path.relative_to(place)}": path.read_bytes()
        for name, place in places.items()
        for path in sorted(place.rglob("*"))
        if path.suffix in _KINDS and path.is_file()
    }
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    return write_zip(files, folder)
