"""The errors that decide what happens to a message or a request.

::

    TradingBotError
    ├── Permanent          it will never work: dead letter now
    ├── Temporary          try again later: the entry stays pending
    └── Unknown            an order's fate is not known: reconcile, never retry blindly

The three roots decide behaviour; every other error of the project is a subclass of one of them, so that a
caller never has to ask what kind of failure it holds.
"""


class TradingBotError(Exception):
    """Any error of ours; its text tells a person what to do."""


class Permanent(TradingBotError):  # noqa: N818 - the word is the verdict
    """The same input can never succeed: it becomes a dead letter at once."""


class Temporary(TradingBotError):  # noqa: N818
    """The same input may succeed later.

    Args:
        message: what failed, for a person.
        delay_s: the least time to wait before the next try, in real seconds; None leaves it to the caller's back-off.
    """

    def __init__(self, message: str, *, delay_s: float | None = None) -> None:
        super().__init__(message)
        self.delay_s = delay_s


class Unknown(TradingBotError):  # noqa: N818
    """A write left us and no answer came back: whether it took effect is not known."""
