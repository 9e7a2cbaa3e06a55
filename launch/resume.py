"""``resume=<folder>``: the settings that a run or a sweep was started with, and its own folder."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from distributed_cls.contracts import checkpoint
from distributed_cls.errors import UserError
from launch.text_values import quoted

_KEY = "resume"
_SWEEP_FLAGS = ("-m", "--multirun")
_SWEEP_FILE = "multirun.yaml"  # Hydra's, with the command that the sweep was started with
_REMEDY = "Set resume=runs/… to the folder of a run that was interrupted."


def expanded(arguments: Sequence[str]) -> list[str]:
    """``arguments`` with ``resume=…`` replaced by the settings of that run or, with ``-m``, of that sweep; those that
    are given besides replace them.

    Raises UserError for a folder that is none of these, and in another working folder than it was started in: relative
    paths would lead elsewhere.
    """
    given = [argument for argument in arguments if argument.partition("=")[0] == _KEY]
    if not given:
        return list(arguments)
    others = [argument for argument in arguments if argument not in given]
    at = arguments.index(given[0])  # settings stand together, or Hydra does not take them for such
    if len(given) > 1 or not given[0].partition("=")[2]:
        raise UserError(f"Expected one folder. Received: {' '.join(given)}. {_REMEDY}")
    own = (_of_sweep if set(_SWEEP_FLAGS) & set(others) else _of_run)(given[0], others)
    replaced = {_key(argument) for argument in others}
    kept = [override for override in own if _key(override) not in replaced]
    return [*others[:at], *kept, *others[at:]]


def _of_run(given: str, others: Sequence[str]) -> list[str]:
    """The settings of the run, its folder among them."""
    folder = _folder(given, others, "hydra.run.dir")
    if (folder / _SWEEP_FILE).is_file():
        raise UserError(
            f"Expected the folder of one run. Received: {given}, a sweep. Add -m to go on with all of it, or set "
            f"{given}/0, or another trial of it."
        )
    if not (folder / ".hydra" / "overrides.yaml").is_file():
        raise UserError(f"Expected the folder of a run. Received: {given} without .hydra/overrides.yaml. {_REMEDY}")
    _load(folder / ".hydra" / "hydra.yaml")
    before = [str(item) for item in OmegaConf.load(folder / ".hydra" / "overrides.yaml")]
    return [*before, f"hydra.run.dir={quoted(str(folder))}"]


def _of_sweep(given: str, others: Sequence[str]) -> list[str]:
    """The settings of the sweep, its folder among them."""
    folder = _folder(given, others, "hydra.sweep.dir")
    if not (folder / _SWEEP_FILE).is_file():
        raise UserError(
            f"Expected the folder of a sweep, because of -m. Received: {given} without {_SWEEP_FILE}. Leave -m out to "
            "go on with one run."
        )
    overrides = OmegaConf.select(_load(folder / _SWEEP_FILE), "hydra.overrides")
    before = [str(item) for item in [*overrides.hydra, *overrides.task]]
    own = ("hydra.mode", "hydra.sweep.dir", "hydra.run.dir")
    kept = [override for override in before if _key(override) not in own]
    return [*kept, f"hydra.sweep.dir={quoted(str(folder))}"]


def _folder(given: str, others: Sequence[str], setting: str) -> Path:
    if any(_key(argument) == setting for argument in others):
        raise UserError(f"Expected {given} without {setting}: it goes on in its own folder. Leave that out.")
    return Path(given.partition("=")[2]).expanduser().resolve()


def _load(path: Path) -> DictConfig:
    """What Hydra noted at the start. Raises UserError when that was in another working folder."""
    noted = OmegaConf.load(path)
    assert isinstance(noted, DictConfig)
    started = Path(OmegaConf.select(noted, "hydra.runtime.cwd"))
    if started.resolve() != Path.cwd().resolve():
        raise UserError(
            f"Expected the working folder that {path} was started in, since its paths begin there: {started}. "
            f"Received: {Path.cwd()}. Change to it: cd {started}."
        )
    return noted


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")


def command_for(folder: Path) -> str | None:
    """What goes on with the run or the sweep in ``folder``; None when it has left nothing to go on from."""
    sweep = (folder / _SWEEP_FILE).is_file()
    if not sweep and not checkpoint.kept(folder / "checkpoints"):
        return None
    try:
        shown = folder.absolute().relative_to(Path.cwd())
    except ValueError:
        shown = folder
    return f"python -m launch {'-m ' if sweep else ''}{shlex.quote(f'{_KEY}={shown}')}"
