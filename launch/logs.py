"""Log lines on the screen, through the console that also draws the progress bar; those of trials that run side by side
in the log of each.
"""

import contextlib
import contextvars
import logging
import time
from collections.abc import Iterator
from pathlib import Path

from rich.markup import escape

from distributed_cls.run.progress import console

# The trial that a thread works for; a thread that it starts is counted to it when it is given the same context.
_trial: contextvars.ContextVar[int | None] = contextvars.ContextVar("trial", default=None)

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class ScreenHandler(logging.Handler):
    """Prints ``12:34:56  message``; warnings and errors in colour. Stack traces stay in the log file. Where trials run
    side by side, ``#3`` says that the message is of trial 3."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            style = _STYLES.get(record.levelno)
            text = escape(record.getMessage())
            stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
            of_trial = "" if (number := _trial.get()) is None else f"#{number}  "
            console.print(
                f"[dim]{stamp}[/dim]  {of_trial}{f'[{style}]{text}[/{style}]' if style else text}", highlight=False
            )
        except Exception:  # the contract of logging: a handler never breaks the program
            self.handleError(record)


@contextlib.contextmanager
def of_trial(number: int, path: Path, line_format: str | None) -> Iterator[None]:
    """Write to ``path`` what is logged in the block for trial ``number``, and what is logged for none: it may matter to
    each that runs."""
    handler = logging.FileHandler(path, encoding="utf-8")
    handler.setFormatter(logging.Formatter(line_format))
    handler.addFilter(lambda record: _trial.get() in (number, None))
    logging.getLogger().addHandler(handler)
    token = _trial.set(number)
    try:
        yield
    finally:
        _trial.reset(token)
        logging.getLogger().removeHandler(handler)
        handler.close()


def quiet_sweepers(arguments: list[str]) -> None:
    """Let Optuna's own lines, which come with escape codes of their own, pass through our logging instead."""
    if not any(argument in ("-m", "--multirun") for argument in arguments):
        return
    try:
        import optuna  # only a sweep needs it, and only where it is installed
    except ImportError:
        return
    optuna.logging.disable_default_handler()
    optuna.logging.enable_propagation()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
