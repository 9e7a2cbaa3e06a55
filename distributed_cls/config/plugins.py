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

from distributed_cls.config import registry
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
    """The modules of the plug-in folders: they travel with the package to where the ranks run.

    Those with a leading underscore are helpers that the others import.
    """
    found = [path for folder in folders() for path in sorted(folder.glob("*.py")) if path.name != "__init__.py"]
    for index, path in enumerate(found):
        for other in found[:index]:
            if other.name == path.name:
                raise UserError(
                    f"Expected plug-ins with names of their own. Received: {other} and {path}. Rename one of them."
                )
    return found


def load() -> tuple[str, ...]:
    """Import every plug-in; the names of their modules, which a rank's process imports as well.

    Raises UserError naming the module that cannot be imported, or whose name another module has.
    """
    for folder in folders():
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
    # The models of this package first: a plug-in whose model has the name of one of them is then the one to be named.
    registry.models()
    paths = {path.stem: path for path in files() if not path.name.startswith("_")}
    names = [*paths, *(entry.module for entry in importlib.metadata.entry_points(group=GROUP))]
    import_all(names)
    for name, path in paths.items():
        _check_origin(name, path)
    return tuple(dict.fromkeys(names))


def _check_origin(name: str, path: Path) -> None:
    """An installed module, or one of Python's own, would be found instead of a plug-in of the same name."""
    found = getattr(sys.modules[name], "__file__", None)
    if found is None or Path(found).resolve() != path.resolve():
        raise UserError(
            f"Expected plug-ins with names of their own. Received: {path}, but there is a module {name} already "
            f"({found or 'built in'}). Rename the file."
        )


def module_root(name: str) -> str:
    """The folder or zip file from which another process imports a module that is imported here."""
    module = sys.modules[name]
    file = Path(str(module.__file__))
    if hasattr(module, "__path__"):  # a package: its file is the __init__.py in its folder
        file = file.parent
    return str(file.parents[name.count(".")])


def import_all(names: Iterable[str]) -> None:
    """Import modules that register models or sources. Raises UserError naming one that cannot be imported."""
    for name in names:
        try:
            importlib.import_module(name)
        except (Exception, SystemExit) as error:  # whatever a module of somebody else's raises
            reason = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {first_line(error)}."
            raise UserError(
                f"Expected the plug-in {name} to be importable. Received: {reason} Repair it, or take it out of "
                f"{VARIABLE} (or uninstall it)."
            ) from error
