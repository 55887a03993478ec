"""The error of all formats; in a file of its own, as the command line names it before torch is there."""


class ExportError(RuntimeError):
    """A network that a format cannot express, or a file that computes something else; the message is one line."""
