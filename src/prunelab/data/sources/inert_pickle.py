"""What a pickle holds, without running it: objects become records of the calls that would make them.

Neither of Python's unpicklers is used, whatever names they are allowed. C's takes memory for any index that a file
gives its memo, and Python's for any length of a bytearray; both hash nested tuples, which ends the process, and
call and change what lies on their stack. pickletools lists opcodes and calls nothing; those followed here push at
most one value each, so memory is bounded by OPCODES and by the bytes of the file.
"""

from __future__ import annotations

import pickletools
from dataclasses import dataclass
from typing import Any

OPCODES = 250_000  # CIFAR-10's files would have 30,000, and 90,000 in protocol 2 of Python 3
VALUES = {  # opcodes whose argument is the value
    "NONE", "BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
}  # fmt: skip
EMPTY = {"EMPTY_LIST": list, "EMPTY_DICT": dict, "EMPTY_TUPLE": tuple}
# What NumPy writes, before version 2, since then, and of Python's bytes in protocol 2.
CALLS = (
    "numpy.core.multiarray _reconstruct", "numpy._core.multiarray _reconstruct",
    "numpy.core.numeric _frombuffer", "numpy._core.numeric _frombuffer",
    "numpy ndarray", "numpy dtype", "_codecs encode",
)  # fmt: skip


@dataclass(eq=False)  # hashed by identity: as a key it is never looked into
class Call:
    """An object of the file: what would be called, with which arguments, and the state it would then get."""

    name: Any
    args: Any
    state: Any = None


def load_inert(pickled: bytes) -> Any:
    """Numbers, text, bytes, lists, tuples and dictionaries of protocols 2 to 5, with a `Call` for each object.

    The values may be nested deeply or in circles: look at the type of each before anything else, and do not print,
    compare or hash them. Raises ValueError, IndexError, KeyError, TypeError or AttributeError for any other file.
    """
    stack: list[Any] = []
    marks: list[int] = []
    memo: dict[int, Any] = {}  # by the file's index, which may be huge

    def since_mark() -> list[Any]:
        start = marks.pop()
        items = stack[start:]
        del stack[start:]
        return items

    arg: Any
    for count, (opcode, arg, _) in enumerate(pickletools.genops(pickled)):
        if count == OPCODES:
            raise ValueError(f"more than {OPCODES:,} opcodes")
        match opcode.name:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case value if value in VALUES:
                stack.append(arg)
            case "BINSTRING" | "SHORT_BINSTRING":  # the strings of Python 2 are bytes
                stack.append(arg.encode("latin-1"))
            case "NEWTRUE" | "NEWFALSE":
                stack.append(opcode.name == "NEWTRUE")
            case "EMPTY_LIST" | "EMPTY_DICT" | "EMPTY_TUPLE":
                stack.append(EMPTY[opcode.name]())
            case "MARK":
                marks.append(len(stack))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                size = int(opcode.name[-1])
                stack[-size:] = [tuple(stack[-size:])]
            case "TUPLE":
                stack.append(tuple(since_mark()))
            case "APPEND" | "APPENDS":
                items = since_mark() if opcode.name == "APPENDS" else [stack.pop()]
                stack[-1].extend(items)
            case "SETITEM" | "SETITEMS":
                items = since_mark() if opcode.name == "SETITEMS" else [stack.pop(-2), stack.pop()]
                stack[-1].update(zip(map(_key, items[::2]), items[1::2], strict=True))
            case "BINPUT" | "LONG_BINPUT":
                memo[arg] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[arg])
            case "GLOBAL":
                stack.append(_name(arg))
            case "STACK_GLOBAL":
                module, name = stack.pop(-2), stack.pop()
                stack.append(_name(f"{module} {name}" if type(module) is type(name) is str else ""))
            case "REDUCE":
                args = stack.pop()
                stack[-1] = Call(stack[-1], args)
            case "BUILD":
                state = stack.pop()
                stack[-1].state = state
            case other:
                raise ValueError(f"opcode {other}: not in a file that protocols 2 to 5 write of images")
    return stack.pop()


def _key(value: Any) -> Any:
    """As it is, if its hash is neither slow nor of the file's choice."""
    if type(value) not in (str, bytes, Call):
        raise ValueError("a key that is not text")
    return value


def _name(path: str) -> str:
    """The last part of the path, "module name", if such a call is in files of images."""
    if path not in CALLS:
        raise ValueError(f"{path.replace(' ', '.')[:80]!r}: not a call that makes an image, refused")
    return path.rpartition(" ")[2]
