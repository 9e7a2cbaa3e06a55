"""``resume=<run folder>``: the settings that a run was started with, and its own folder."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import OmegaConf

from distributed_cls.contracts import checkpoint
from distributed_cls.errors import UserError
from launch.text_values import quoted

_KEY = "resume"
_REMEDY = "Set resume=runs/… to the folder of a run that was interrupted."


def expanded(arguments: Sequence[str]) -> list[str]:
    """``arguments`` with ``resume=…`` replaced by the settings of that run; those that are given besides come after.

    Raises UserError for a folder that is no run's, and in another working folder than the run was started in: relative
    paths would lead elsewhere.
    """
    given = [argument for argument in arguments if argument.partition("=")[0] == _KEY]
    if not given:
        return list(arguments)
    others = [argument for argument in arguments if argument not in given]
    folder = _folder(given, others)
    hydra = OmegaConf.load(folder / ".hydra" / "hydra.yaml")
    started = Path(OmegaConf.select(hydra, "hydra.runtime.cwd"))
    if started.resolve() != Path.cwd().resolve():
        raise UserError(
            f"Expected the working folder that the run was started in, since its paths begin there: {started}. "
            f"Received: {Path.cwd()}. Change to it: cd {started}."
        )
    replaced = {_key(argument) for argument in others}
    before = [str(item) for item in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
    kept = [override for override in before if _key(override) not in replaced]
    return [*kept, f"hydra.run.dir={quoted(str(folder))}", *others]


def _folder(given: Sequence[str], others: Sequence[str]) -> Path:
    value = given[0].partition("=")[2]
    if len(given) > 1 or not value:
        raise UserError(f"Expected one run folder. Received: {' '.join(given)}. {_REMEDY}")
    if any(_key(argument) == "hydra.run.dir" for argument in others):
        raise UserError(f"Expected {given[0]} without hydra.run.dir: it goes on in its own folder. Leave that out.")
    if {"-m", "--multirun"} & set(others):
        raise UserError(f"Expected one run to go on with. Received: a sweep (-m) with {given[0]}. Leave -m out.")
    folder = Path(value).expanduser().resolve()
    if (folder / "multirun.yaml").is_file():
        raise UserError(
            f"Expected the folder of one run. Received: {value}, a sweep. Set {_KEY}={value}/0, or another trial of it."
        )
    if not (folder / ".hydra" / "overrides.yaml").is_file():
        raise UserError(f"Expected the folder of a run. Received: {value} without .hydra/overrides.yaml. {_REMEDY}")
    return folder


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def command_for(folder: Path) -> str | None:
    """What goes on with the run in ``folder``; None when it has left no checkpoint."""
    if not checkpoint.kept(folder / "checkpoints"):
        return None
    try:
        shown = folder.absolute().relative_to(Path.cwd())
    except ValueError:
        shown = folder
    return f"python -m launch {shlex.quote(f'{_KEY}={shown}')}"
