"""The error that is the user's to mend.  Standard library alone: whatever reports a fault may import it."""


class UserError(ValueError):
    """What the user gave cannot work; the message says what, where and the way out in one sentence."""
