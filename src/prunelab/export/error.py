"""The error of all formats, in a file without torch: the command line names it before it imports torch."""


class ExportError(RuntimeError):
    """A format cannot express a network, or its file computes something else; the message is one line."""
