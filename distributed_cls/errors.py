"""The ways in which a run can end before it is done, and how each is told."""


class UserError(ValueError):
    """Something the user can put right: ends the run with exit code 2 and one line.

    The message says what was expected, what was received and what to do.
    """


class RunError(RuntimeError):
    """Anything else that ends a run: exit code 1, with the failing rank and where its log is."""


class EndRequested(BaseException):
    """Whoever watches a run wants no more of it: it ends as after Ctrl-C, with a checkpoint."""
