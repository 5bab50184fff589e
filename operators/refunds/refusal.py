"""The reason why an operator's action about a refund is refused."""


class Refused(Exception):
    """The refund cannot be closed or tried like this; the text is a sentence with the reason."""
