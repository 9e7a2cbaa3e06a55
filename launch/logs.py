"""Log lines on the screen, through the console that also draws the progress bar."""

import logging
import time

from rich.markup import escape

from distributed_cls.run.progress import console

_STYLES = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "red"}


class ScreenHandler(logging.Handler):
    """Prints ``12:34:56  message``; warnings and errors in colour. Stack traces stay in the log file."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            style = _STYLES.get(record.levelno)
            text = escape(record.getMessage())
            stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
            console.print(f"[dim]{stamp}[/dim]  {f'[{style}]{text}[/{style}]' if style else text}", highlight=False)
        except Exception:  # the contract of logging: a handler never breaks the program
            self.handleError(record)


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
