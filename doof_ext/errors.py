"""The errors a user can mend, told apart from the errors that are ours."""

import os
import signal


class _OneLine(Exception):
    """Mixed into an error: whatever a message quotes, it is one line."""

    def __init__(self, message: object) -> None:
        super().__init__(" ".join(str(message).split()))


class UserError(_OneLine, ValueError):
    """Something the user gave cannot be used: one line, what is wrong and what would be right.

    The commands in ``run_example/`` print it without a traceback and exit with code 2.
    """


def unreadable(path: object, error: OSError) -> UserError:
    """The UserError for a file that is there and cannot be opened or read, with the system's reason."""
    return UserError(f"{path} cannot be read ({os.strerror(error.errno) if error.errno else error})")


class RunStoppedError(_OneLine, RuntimeError):
    """A run ended before its end, and can be resumed: one line, what happened. The commands exit with code 1."""

    run_directory: str | None = None


class DivergenceError(RunStoppedError):
    """Training produced NaN or infinity; the message names the quantity and where it appeared."""


class EnvironmentFailedError(RunStoppedError):
    """The environment raised an error; the step that did is not recorded."""


class StoppedAfter(Exception):
    """A run has ended after the stage that it was to stop after, and can be resumed. The commands exit with code 0."""

    run_directory: str | None = None

    def __init__(self, stage: str, has_env: bool = True, has_session: bool = True) -> None:
        self.stage, self.has_env, self.has_session = stage, has_env, has_session
        super().__init__(f"stopped after stage {stage}, as asked")


class Interrupted(Exception):
    """A signal asked the run to stop, and its checkpoint is written. The commands exit with code 128 + signal."""

    run_directory: str | None = None

    def __init__(self, number: int) -> None:
        self.number = int(number)
        super().__init__(f"stopped by {signal.Signals(number).name}")
