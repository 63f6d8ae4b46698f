"""The errors a user can mend, told apart from the errors that are ours."""


class UserError(ValueError):
    """Something the user gave cannot be used: one line, what is wrong and what would be right.

    The commands in ``run_example/`` print it without a traceback and exit with code 2.
    """


class DivergenceError(RuntimeError):
    """Training produced NaN or infinity; the message names the quantity and where it appeared."""
