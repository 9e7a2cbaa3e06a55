"""How a run ends: Spark is stopped, one line says what was wrong, and the exit code says whose turn it is."""

import contextlib
import dataclasses
import difflib
import logging
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf.errors import OmegaConfBaseException
from rich.markup import escape

from distributed_cls.config import MODELS, Config
from distributed_cls.errors import RunError, UserError
from distributed_cls.run.progress import console
from launch.trial import STATE

log = logging.getLogger(__name__)

DONE, FAILED, USER, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

_AGAIN_SECONDS = 0.1


class _Terminated(BaseException):
    """SIGTERM, as an exception, so that everything is cleaned up as after Ctrl-C."""


def code_of(command: Callable[[], Any]) -> int:
    """Run ``command``, stop Spark whatever happened, say how it ended, and return the exit code."""
    with _terminable(), _never_deaf():
        try:
            code = _run(command)
        finally:
            with _uninterrupted():
                STATE.close()
    return code


def _run(command: Callable[[], Any]) -> int:
    try:
        command()
        if STATE.sweep_folder is not None:
            return _tell_sweep()
        for error in STATE.errors:
            raise error
        return DONE
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _say(one_line(error))
        return USER
    except KeyboardInterrupt:
        _say("interrupted; every process of the run is being ended")
        return INTERRUPTED
    except _Terminated:
        _say("terminated; every process of the run is being ended")
        return TERMINATED
    except RunError as error:
        _say(str(error))
        return FAILED
    except Exception as error:
        return _unexpected(error)


def _unexpected(error: Exception) -> int:
    """An error that no room of ours has worded. Before the run folder is there it comes from inside Hydra."""
    if STATE.folder is not None:
        log.error("%s: %s", type(error).__name__, error, exc_info=error)
        _say(f"that was not expected; the stack trace is in {STATE.folder / 'launch.log'}")
        return FAILED
    if isinstance(error, OSError):
        found = f"{error.filename} ({error.strerror})"
        _say(f"Expected a run folder that can be made. Received: {found}. Set hydra.run.dir to another one.")
    elif isinstance(error, ValueError | TypeError):
        _say(f"Expected settings that can be composed. Received: {error}. See python -m launch --help.")
    else:
        raise error
    return USER


def _say(message: str) -> None:
    console.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)


def _tell_sweep() -> int:
    """After a sweep: its table. 0 when any trial was done; otherwise the code of what went wrong."""
    assert STATE.sweep_folder is not None
    from distributed_cls.evaluation import trials

    trials.save(STATE.rows, STATE.sweep_folder)
    console.print(trials.render(STATE.rows))
    console.print(f"The table: {STATE.sweep_folder / 'trials.html'}", highlight=False, soft_wrap=True)
    if len(STATE.errors) < len(STATE.rows):
        return DONE
    return USER if all(isinstance(error, UserError | OmegaConfBaseException) for error in STATE.errors) else FAILED


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    def stop(_signal: int, _frame: Any) -> None:
        raise _Terminated

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def _never_deaf() -> Iterator[None]:
    """Send a signal again whose exception was lost.

    Python drops what is raised in a finalizer, in the callback of a weak reference (Py4J has one for each Java object)
    or of the garbage collector. When the signal arrives in just that moment, the run would go on as if none had come.
    """
    numbers = {KeyboardInterrupt: signal.SIGINT, _Terminated: signal.SIGTERM}
    tell, over = sys.unraisablehook, threading.Event()

    def send_again(number: signal.Signals) -> None:
        if not over.wait(_AGAIN_SECONDS):
            os.kill(os.getpid(), number)

    def lost(what: "sys.UnraisableHookArgs") -> None:
        if what.exc_type in numbers:  # from a thread: raised here, it would be lost as well
            threading.Thread(target=send_again, args=(numbers[what.exc_type],), daemon=True).start()
        else:
            tell(what)

    sys.unraisablehook = lost
    try:
        yield
    finally:
        over.set()
        sys.unraisablehook = tell


@contextlib.contextmanager
def _uninterrupted() -> Iterator[None]:
    """A second Ctrl-C must not leave Spark behind; every wait of the clean-up has a limit of its own."""
    before = {number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def one_line(error: Exception) -> str:
    """What was expected, what was received and what to do, out of what Hydra and OmegaConf raise."""
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, MissingConfigException) and error.options:
        group, _, chosen = str(error.missing_cfg_file).rpartition("/")
        return f"Expected {group} to be one of {', '.join(error.options)}. Received: {group}={chosen}. Set one of them."
    if isinstance(error, OverrideParseException):
        return (
            f"Expected key=value. Received: {error.override}. "
            f"Put a value with brackets, commas or spaces in quotes of its own: \"key='local[2]'\"."
        )
    # Hydra says which override failed, its cause says why.
    text = f"{error} {error.__cause__ or ''}".replace("\n", " ")
    key = re.search(r"Key '([^']+)' is not in struct|Key '([^']+)' not in '", text)
    if key:
        return _unknown_key(text, key.group(1) or key.group(2))
    unknown = re.search(r"Could not override '([^']+)'\. *No match in the defaults list", text)
    if unknown:
        return f"Expected a group or a setting of --help. Received: {unknown.group(1)}. See python -m launch --help."
    missing = re.search(r"Missing mandatory value: (\S+)", text)
    if missing:
        return f"Expected a value for {missing.group(1)}. Received: none. Set {missing.group(1)}=… on the command line."
    full_key = re.search(r"full_key: (\S+)", text)
    if full_key:
        return f"Expected {full_key.group(1)} to be of its type. Received: {text.split(' full_key')[0].strip()}."
    return " ".join(text.split())


def _unknown_key(text: str, name: str) -> str:
    full = re.search(r"full_key: (\S+)", text)
    path = full.group(1) if full else name
    if path.startswith("cluster.spark."):
        return (
            f"Expected Spark properties as one mapping. Received: {path}. "
            "Write '+cluster.spark={spark.executor.memory:4g}'."
        )
    section = path.rpartition(".")[0]
    valid = sorted(_settings(section))
    near = difflib.get_close_matches(name, valid, n=1)
    remedy = f"Did you mean {section + '.' if section else ''}{near[0]}?" if near else "See python -m launch --help."
    return f"Expected {section or 'a top-level key'} to have only: {', '.join(valid)}. Received: {path}. {remedy}"


def _settings(section: str) -> set[str]:
    if section == "model":
        return {item.name for kind in MODELS.values() for item in dataclasses.fields(kind)}
    kind: Any = Config
    if section:
        kind = {item.name: item.type for item in dataclasses.fields(Config)}.get(section, Config)
    return {item.name for item in dataclasses.fields(kind)}
