"""How a command ends: Spark is stopped, one line says what was wrong, and the exit code says whose turn it is."""

import contextlib
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from types import FrameType

from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from rich.markup import escape

from distributed_cls import storage
from distributed_cls.contracts.trials_table import TrialStatus
from distributed_cls.errors import RunError, UserError
from distributed_cls.run.progress import console
from distributed_cls.spark import yarn_attempts
from launch import earlier_settings
from launch.admission import BusySlots
from launch.composition_errors import one_line
from launch.resume import command_for
from launch.sweep_state import Sweep
from launch.trial import Launcher

log = logging.getLogger(__name__)

DONE, FAILED, USER, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143

_RESEND_SECONDS = 0.1

# What the machine's owner can put right, whichever room met it.
_PLACE = {
    **dict.fromkeys(storage.FORBIDDEN, "Change its rights, or choose another place."),
    **dict.fromkeys(storage.FULL, "Make room, and start the command again."),
    errno.EMFILE: "Raise the limit of open files (ulimit -n).",
}


class _Terminated(BaseException):
    """SIGTERM or SIGHUP, as an exception, so that everything is cleaned up as after Ctrl-C."""


def code_of(command: Callable[[], object], launcher: Launcher) -> int:
    """Run ``command``, stop Spark whatever happened, say how it ended, and return the exit code."""
    with _signals_raise(), _redeliver_lost_signals():
        try:
            code = _run(command, launcher)
        except _Terminated:  # once more, while the line of the first was printed: a closed terminal sends two signals
            code = TERMINATED
        except KeyboardInterrupt:
            code = INTERRUPTED
        finally:
            with _signals_ignored():
                launcher.close()
        if code == USER:
            launcher.remove_empty_folder()
            earlier_settings.put_back()
    return code


def _run(command: Callable[[], object], launcher: Launcher) -> int:
    try:
        yarn_attempts.refuse_again()
        _do(command, launcher)
        if launcher.sweep is not None:
            return _end_sweep(launcher.sweep, launcher.errors, launcher.busy)
        for error in launcher.errors:
            raise error
        return DONE
    except (UserError, HydraException, OmegaConfBaseException) as error:
        line = one_line(error)
        _print_error(line)
        yarn_attempts.remember_refusal(line)
        return USER
    except KeyboardInterrupt:
        _say_interrupted("interrupted", launcher)
        return INTERRUPTED
    except _Terminated:
        _say_interrupted("terminated", launcher)
        return TERMINATED
    except RunError as error:
        _print_error(str(error))
        return FAILED
    except Exception as error:
        return _unexpected(error, launcher)


def _do(command: Callable[[], object], launcher: Launcher) -> None:
    try:
        command()
    except ValueError as error:
        # Optuna's, at the end of a search in which no trial has an accuracy; the table of trials says why.
        if launcher.sweep is None or "No trials are completed" not in str(error):
            raise
    finally:
        launcher.end_view()


def _unexpected(error: Exception, launcher: Launcher) -> int:
    """An error that no room of ours has worded. Before the run folder is there it comes from inside Hydra."""
    if isinstance(error, OSError) and error.errno in _PLACE:
        where = error.filename or "a file of the run"
        _print_error(f"Expected {where} to be usable. Received: {error.strerror}. {_PLACE[error.errno]}")
        return USER
    if launcher.folder is not None:
        log.error("%s: %s", type(error).__name__, error, exc_info=error)
        _print_error(f"unexpected {type(error).__name__}; the stack trace is in {launcher.folder / 'launch.log'}")
        return FAILED
    if isinstance(error, OSError):
        found = f"{error.filename} ({error.strerror})"
        _print_error(f"Expected a run folder that can be made. Received: {found}. Set hydra.run.dir to another one.")
    elif isinstance(error, ValueError | TypeError):
        _print_error(f"Expected settings that can be composed. Received: {error}. See python -m launch --help.")
    else:
        raise error
    return USER


def _print_error(message: str) -> None:
    # Where nobody reads any more (a closed pipe, which rich answers with SystemExit), the exit code still counts.
    with contextlib.suppress(OSError, SystemExit):
        console.print(f"[bold red]error:[/] {escape(message)}", highlight=False, soft_wrap=True)


def _say_interrupted(how: str, launcher: Launcher) -> None:
    _print_error(f"{how}; all processes of the run are being stopped")
    folder = launcher.sweep.folder if launcher.sweep else launcher.folder
    command = command_for(folder) if folder is not None else None
    if command:
        with contextlib.suppress(OSError, SystemExit):
            console.print(f"go on with  {command}", highlight=False, soft_wrap=True, markup=False)


def _end_sweep(sweep: Sweep, errors: Sequence[Exception], busy: BusySlots) -> int:
    """Print and save the table of trials. 0 when any trial was done; otherwise the code of what went wrong."""
    from distributed_cls.evaluation import trials, trials_page

    page = trials_page.save(sweep.rows, sweep.folder)
    console.print(trials.render(sweep.rows))
    refit = trials.refitted(sweep.rows)
    if refit is not None:
        console.print(trials.refit_words(refit), highlight=False, soft_wrap=True)
    console.print(f"report  {page}", highlight=False, soft_wrap=True)
    if busy.share is not None:
        at_once = f"up to {busy.most} trials at once" if busy.most > 1 else "one trial at a time"
        console.print(f"slots   busy {busy.share:.0%} of the time, with {at_once}", highlight=False, soft_wrap=True)
    _say_what_is_left(sweep)
    if not errors or len(errors) < len(sweep.rows):
        return DONE
    fixable = all(isinstance(error, UserError | OmegaConfBaseException) for error in errors)
    return USER if fixable else FAILED


def _say_what_is_left(sweep: Sweep) -> None:
    unfinished = sum(row.status is TrialStatus.UNFINISHED for row in sweep.rows)
    if not unfinished and not sweep.left_out:
        return
    said = f"{unfinished} of the trials did not come to their end, and {sweep.left_out} did not begin; go on with"
    console.print(f"{said}  {command_for(sweep.folder)}", highlight=False, soft_wrap=True, markup=False)


@contextlib.contextmanager
def _signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP (a terminal that was closed) end the run as Ctrl-C does, unless nohup has them ignored."""
    terminals = [descriptor for descriptor in (0, 1, 2) if _is_terminal(descriptor)]

    def stop(_signal: int, _frame: FrameType | None) -> None:
        _leave_closed(terminals)
        raise _Terminated

    wanted = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, stop) for number in wanted}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _is_terminal(descriptor: int) -> bool:
    try:
        return os.isatty(descriptor)
    except OSError:  # closed
        return False


def _leave_closed(terminals: list[int]) -> None:
    """Replace terminals that are gone by the null device: a line for nobody would fail, and the clean-up with it."""
    for descriptor in terminals:
        if not _is_terminal(descriptor):
            null = os.open(os.devnull, os.O_RDWR)
            os.dup2(null, descriptor)
            os.close(null)


@contextlib.contextmanager
def _redeliver_lost_signals() -> Iterator[None]:
    """Send a signal again whose exception was lost.

    Python drops what is raised in a finalizer, in the callback of a weak reference (Py4J has one for each Java object)
    or of the garbage collector. When the signal arrives in just that moment, the run would go on as if none had come.
    """
    numbers = {KeyboardInterrupt: signal.SIGINT, _Terminated: signal.SIGTERM}
    previous_hook, over = sys.unraisablehook, threading.Event()

    def send_again(number: signal.Signals) -> None:
        if not over.wait(_RESEND_SECONDS):
            os.kill(os.getpid(), number)

    def on_unraisable(what: "sys.UnraisableHookArgs") -> None:
        if what.exc_type in numbers:  # from a thread: raised here, it would be lost as well
            threading.Thread(target=send_again, args=(numbers[what.exc_type],), daemon=True).start()
        else:
            previous_hook(what)

    sys.unraisablehook = on_unraisable
    try:
        yield
    finally:
        over.set()
        sys.unraisablehook = previous_hook


@contextlib.contextmanager
def _signals_ignored() -> Iterator[None]:
    """A second Ctrl-C must not leave Spark behind; every wait of the clean-up has a limit of its own."""
    before = {
        number: signal.signal(number, signal.SIG_IGN) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
