"""Models and data sources from outside of this package, found by folder or by entry point.

``DISTRIBUTED_CLS_PLUGINS`` names folders (separated as in PATH). Every ``*.py`` in them is imported and registers what
it brings; a ``conf/`` in them has the YAML files, as this project's own. Installed packages name their modules in the
entry-point group ``distributed_cls.plugins``.
"""

import importlib
import importlib.metadata
import os
import sys
from collections.abc import Iterable
from pathlib import Path

from distributed_cls.errors import UserError
from distributed_cls.text import first_line

VARIABLE = "DISTRIBUTED_CLS_PLUGINS"
GROUP = "distributed_cls.plugins"


def folders() -> list[Path]:
    """The folders of plug-ins. Raises UserError for one that is not there."""
    given = [Path(name).expanduser().absolute() for name in os.environ.get(VARIABLE, "").split(os.pathsep) if name]
    for folder in given:
        if not folder.is_dir():
            raise UserError(f"Expected folders in {VARIABLE}. Received: {folder}, no such folder. Correct or unset it.")
    return given


def conf_folders() -> list[Path]:
    """Folders with YAML files of plug-ins."""
    return [folder / "conf" for folder in folders() if (folder / "conf").is_dir()]


def files() -> list[Path]:
    """The modules of the plug-in folders: they travel with the package to where the ranks run."""
    return [path for folder in folders() for path in sorted(folder.glob("*.py"))]


def load() -> tuple[str, ...]:
    """Import every plug-in; the names of their modules, which a rank's process imports as well.

    Raises UserError naming the module that cannot be imported.
    """
    for folder in folders():
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    names = [path.stem for path in files()]
    names += [entry.module for entry in importlib.metadata.entry_points(group=GROUP)]
    import_all(names)
    return tuple(dict.fromkeys(names))


def import_all(names: Iterable[str]) -> None:
    """Import modules that register models or sources. Raises UserError naming one that cannot be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        except Exception as error:  # whatever a module of somebody else's raises
            raise UserError(
                f"Expected the plug-in {name} to be importable. Received: {type(error).__name__}: {first_line(error)}. "
                f"Repair it, or take it out of {VARIABLE}."
            ) from error
