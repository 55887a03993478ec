"""Reading pickles without running them: forged ones cost neither memory nor the process."""

import os
import pickle
import tracemalloc
from collections import OrderedDict
from contextlib import suppress

import pytest

from prunelab.data.sources.inert_pickle import OPCODES, Call, load_inert

PLAIN = {
    "a": [1, 300, -1, 2**40, 0.5, None, True, False, ()],
    b"b": (b"x" * 300, "ä" * 300, (1, 2), (1, 2, 3, 4)),
    "c": {},
}
HUGE = (1 << 40).to_bytes(8, "little")
MEMORY = 100e6  # bytes; these take 8e6 at most, unpicklers 2e9 and more


class MakeFolder:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("owned",)


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_plain_values_are_read_as_they_were_written(protocol: int) -> None:
    shared = PLAIN | {"again": PLAIN["a"]}
    assert load_inert(pickle.dumps(shared, protocol)) == shared


def test_bytes_of_protocol_2_are_a_call_that_is_not_made() -> None:
    call = load_inert(pickle.dumps(b"\xff", 2))
    assert (type(call), call.name, call.args, call.state) == (Call, "encode", ("\xff", "latin1"), None)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize(("value", "name"), [(MakeFolder(), "mkdir"), (OrderedDict(), "collections.OrderedDict")])
def test_a_name_that_makes_no_image_is_refused(value: object, name: str, protocol: int) -> None:
    with pytest.raises(ValueError, match=rf"{name}': not a call that makes an image"):
        load_inert(pickle.dumps([value], protocol))
    assert not os.path.exists("owned")


FORGED = {
    "memo at a huge index": b"\x80\x02}r\xff\xff\xff\x0f.",  # 4 GB in C's unpickler
    "a length above the file's": b"\x80\x05\x8e" + HUGE + b".",
    "a bytearray of that length": b"\x80\x05\x96" + HUGE + b".",  # 2 GB in Python's at 1 << 31
    "a frame of that length": b"\x80\x04\x95" + HUGE + b"N.",
    # Its hash ends the process in both.
    "nested tuples in a call as a key": b"\x80\x02}c_codecs\nencode\n)" + b"\x85" * 160_000 + b"RK\x01s.",
    "nested lists": b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".",
    "nested calls": b"\x80\x02cnumpy\ndtype\n" + b")R" * 50_000 + b".",
    "a tuple that doubles": b"\x80\x02)q\x00" + b"h\x00h\x00\x86q\x00" * 20_000 + b".",
    "a list in itself": b"\x80\x02]q\x00h\x00a.",
}


@pytest.mark.parametrize("forged", FORGED)
def test_a_forged_file_takes_no_memory_and_does_not_end_the_process(forged: str) -> None:
    tracemalloc.start()
    try:
        with suppress(ValueError):
            load_inert(FORGED[forged])
        assert tracemalloc.get_traced_memory()[1] < MEMORY
    finally:
        tracemalloc.stop()


REFUSED = {
    "more than 250,000 opcodes": b"\x80\x02" + b"]" * OPCODES + b".",
    "opcode EMPTY_SET": b"\x80\x04\x8f.",
    "opcode EXT1": b"\x80\x02\x82\x01.",
    "opcode INST": b"(ios\nsystem\n.",
    "opcode NEWOBJ": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "a key that is not text": b"\x80\x02})K\x01s.",
    "argument 2 is shorter": b"\x80\x02}(U\x01au.",
    "'': not a call": b"\x80\x04]]\x93.",
    "before seeing STOP": b"\x80\x02}",
    "only 2 remain": b"\x80\x02U\x03ab",
}


@pytest.mark.parametrize("reason", REFUSED)
def test_what_no_file_of_images_holds_is_refused(reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        load_inert(REFUSED[reason])


def test_only_records_get_a_state() -> None:
    with pytest.raises(AttributeError):
        load_inert(b"\x80\x02}}b.")
