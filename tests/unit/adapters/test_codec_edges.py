"""What both codecs do with bytes, classes and values that random schemas hardly hit; and the extension by itself."""

import dataclasses
import gc
import logging
import shutil
import subprocess
import sys
import sysconfig
import threading
import time
import tracemalloc
import weakref
from abc import ABC
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from pipeline.adapters.avro import compile_native as native_compiler
from pipeline.adapters.avro.binding import Binding
from pipeline.adapters.avro.codec import Codec, implementation
from pipeline.adapters.avro.compile_decode import compile_decode
from pipeline.adapters.avro.compile_encode import compile_encode
from pipeline.adapters.avro.compile_native import compile_native, is_native
from pipeline.adapters.avro.construction import construction
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.wire.rewriting import EMPTY_ITEMS_MAX
from pipeline.errors import EncodeError, UndecodableRecord
from pipeline.model import CommandMessage, EventMessage
from pipeline.worker.main import warn_if_slow_codec
from tests.unit.adapters.test_codec import HEAD, IMPLEMENTATIONS, MISFITS, SCHEMAS, TAKE, Compiled, compiled
from topologies import inventory, orders, reports

needs_native = pytest.mark.skipif(not is_native(), reason="the extension is not built")
both = pytest.mark.parametrize("native", IMPLEMENTATIONS)


def record(name: str, **fields: Any) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [{"name": n, "type": t} for n, t in fields.items()]}


def holding(annotation: Any, schema: Any, *, native: bool) -> tuple[Any, Compiled]:
    """A class with the one field `x`, and its codec."""
    cls = dataclasses.make_dataclass("Holder", [("x", annotation)], frozen=True, slots=True)
    return cls, compiled(Binding("t", record("Holder", x=schema), cls), native=native)


def varint(n: int) -> bytes:
    """Zigzag."""
    n, out = n << 1 if n >= 0 else ~n << 1 | 1, bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    return bytes(out + bytes([n]))


# --- bytes ------------------------------------------------------------------------------------------------------------

ENUM = {"type": "enum", "name": "E", "symbols": ["A", "B"]}
FIXED = {"type": "fixed", "name": "F", "size": 3}
NULLS = {"type": "array", "items": "null"}
LONGS = {"type": "array", "items": "long"}
NULLS_HINT, LONGS_HINT = tuple[type(None), ...], tuple[int, ...]  # type: ignore[misc]


@both
@pytest.mark.parametrize(
    ("schema", "annotation", "body", "value"),
    [
        ("long", int, b"\x80\x80\x00", 0),  # longer than need be
        ("long", int, b"\xff" * 9 + b"\x01", -(2**63)),
        ("int", int, varint(2**40), 2**40),  # an int is read as a long
        ("boolean", bool, b"\x02", True),
        (["null", "long"], int | None, b"\x82\x00\x04", 2),
        (LONGS, LONGS_HINT, b"\x02\x02\x04\x04\x06\x01\x02\x08\x00", (1, 2, 3, 4)),  # three blocks, one with its size
        (LONGS, LONGS_HINT, b"\x00", ()),
        ({"type": "map", "values": "null"}, dict[str, type(None)], b"\x04\x02a\x02a\x00", {"a": None}),
        (NULLS, NULLS_HINT, varint(5) + b"\0", (None,) * 5),
    ],
)
def test_unusual_bytes_that_are_right(native: bool, schema: Any, annotation: Any, body: bytes, value: object) -> None:
    cls, codec = holding(annotation, schema, native=native)
    assert codec.decode(HEAD + body) == cls(value)


@both
@pytest.mark.parametrize(
    ("schema", "annotation", "body"),
    [
        ("long", int, b""),
        ("long", int, b"\xff" * 9 + b"\x02"),
        ("long", int, b"\x80" * 10 + b"\x00"),
        ("string", str, varint(-1)),
        ("string", str, varint(-(2**63))),
        ("string", str, varint(2**62)),
        ("bytes", bytes, varint(2**63 - 1) + b"x"),
        ("string", str, b"\x02\xff"),
        ("string", str, b"\x06\xed\xa0\x80"),  # half of a surrogate pair
        ("boolean", bool, b""),
        ("double", float, b"1234567"),
        ("float", float, b"123"),
        ("double", float, b""),
        (FIXED, bytes, b"12"),
        (FIXED, bytes, b""),
        (ENUM, str, varint(2)),
        (ENUM, str, varint(-1)),
        (["null", "long"], int | None, varint(2)),
        (["null", "long"], int | None, varint(-1)),
        (LONGS, LONGS_HINT, varint(2**60)),
        (LONGS, LONGS_HINT, varint(-(2**63)) + b"\0"),
        ({"type": "array", "items": FIXED}, tuple[bytes, ...], varint(2**62)),
        ({"type": "map", "values": "null"}, dict[str, type(None)], varint(2**62)),
        (NULLS, NULLS_HINT, varint(2**62) + b"\0"),
        (NULLS, NULLS_HINT, (varint(EMPTY_ITEMS_MAX // 2) * 3) + b"\0"),  # the bound is for a record, not for a block
        ({"type": "array", "items": NULLS}, tuple[NULLS_HINT, ...], b"\x04" + 2 * (varint(EMPTY_ITEMS_MAX) + b"\0")),
    ],
)
def test_bytes_that_are_wrong(native: bool, schema: Any, annotation: Any, body: bytes) -> None:
    _, codec = holding(annotation, schema, native=native)
    started = time.monotonic()
    with pytest.raises(MISFITS):
        codec.decode(HEAD + body)
    assert time.monotonic() - started < 5

    @dataclasses.dataclass(frozen=True, slots=True)
    class Holder:  # steps over the field
        pass

    follower = compiled(Binding("t", record("Holder", x=schema), Holder, strict=False), native=native)
    if b"\xff" not in body[1:2] and b"\xed" not in body:  # text is not read where it is not kept
        with pytest.raises(MISFITS):
            follower.decode(HEAD + body)


@both
def test_a_follower_sees_what_it_asks_for(native: bool) -> None:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Seen:
        b: tuple[str, ...]

    every = {
        **{kind: kind for kind in ("null", "boolean", "int", "long", "float", "double", "bytes", "string")},
        "e": ENUM,
        "f": FIXED,
        "m": {"type": "map", "values": LONGS},
        "u": ["null", record("Unknown", x="string")],
    }
    schema = [record("Seen", **every, b={"type": "array", "items": "string"}, z=record("Inner", u=every["u"]))]
    schema.append(record("Unseen", s="string", a={"type": "array", "items": "Unknown"}))
    codec = compiled(Binding("t", schema, Seen, strict=False), native=native)
    skipped = b"\x01\x02\x04" + b"1234" + b"12345678" + b"\x02\xff" + b"\x02\xff" + b"\x02" + b"123"
    skipped += b"\x02\x02k\x02\x06\0\0" + b"\x02\x02s"
    assert codec.decode(HEAD + b"\x00" + skipped + b"\x02\x02y\x00" + b"\x00") == Seen(("y",))
    assert codec.decode(HEAD + b"\x02" + b"\x02s" + b"\x02\x02x\x00") is None
    with pytest.raises(MISFITS):
        codec.encode(None)


@both
def test_an_envelope_around_an_unknown_record_has_no_body(native: bool) -> None:
    registry = Registry(SCHEMAS)
    placed = orders.OrderPlaced(
        **{f.name: () if f.name == "lines" else "x" for f in dataclasses.fields(orders.OrderPlaced)}
    )
    data = Codec(registry, "orders.event", EventMessage, orders.Event | orders.OrderPlacedV1).encode(
        EventMessage(1, "c", "k", 5, placed)
    )
    follower = Codec(registry, "orders.event", EventMessage, inventory.GoodsReturned, strict=False, native=native)
    assert follower.decode(data) == EventMessage(1, "c", "k", 5, None)
    with pytest.raises(EncodeError):
        follower.encode(EventMessage(1, "c", "k", 5, inventory.GoodsReturned(())))  # lacks what the schema asks for


# --- classes ----------------------------------------------------------------------------------------------------------

PAIR = record("Pair", a="long", b="long")


class Plain(NamedTuple):
    a: int
    b: int


def plain_dataclass() -> Any:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Pair:
        a: int
        b: int = 3

    return Pair


def with_post_init() -> Any:
    @dataclasses.dataclass(slots=True)
    class Pair:
        a: int
        b: int

        def __post_init__(self) -> None:
            self.b += 10

    return Pair


def with_own_init() -> Any:
    @dataclasses.dataclass(slots=True)
    class Pair:
        a: int
        b: int

        def __init__(self, b: int, a: int) -> None:  # the other way round
            self.a, self.b = a, b + 10

    return Pair


def with_own_new() -> Any:
    @dataclasses.dataclass(slots=True)
    class Pair:
        a: int
        b: int
        made = 0

        def __new__(cls, *_: Any, **__: Any) -> Any:
            cls.made += 1
            return object.__new__(cls)

    return Pair


def with_inherited_new() -> Any:
    class Counted:
        __slots__ = ()
        made = 0

        def __new__(cls, *_: Any, **__: Any) -> Any:
            Counted.made += 1
            return object.__new__(cls)

    @dataclasses.dataclass(slots=True)
    class Pair(Counted):
        a: int
        b: int

    return Pair


def with_own_setattr() -> Any:
    @dataclasses.dataclass(slots=True)
    class Pair:
        a: int
        b: int

        def __setattr__(self, name: str, value: int) -> None:
            object.__setattr__(self, name, value + 1 if name == "b" else value)

    return Pair


def with_metaclass() -> Any:
    class Meta(type):
        def __call__(cls, *args: Any) -> Any:
            return super().__call__(*(arg + 1 for arg in args))

    @dataclasses.dataclass(slots=True)
    class Pair(metaclass=Meta):
        a: int
        b: int

    return Pair


def abstract() -> Any:
    @dataclasses.dataclass(slots=True)
    class Pair(ABC):
        a: int
        b: int

    return Pair


def without_slots() -> Any:
    @dataclasses.dataclass(frozen=True)
    class Pair:
        a: int
        b: int

    return Pair


def inherited() -> Any:
    @dataclasses.dataclass(frozen=True, slots=True)
    class Base:
        a: int

    @dataclasses.dataclass(frozen=True, slots=True)
    class Pair(Base):
        b: int

    return Pair


def by_keyword() -> Any:
    @dataclasses.dataclass(frozen=True)
    class Pair:
        b: int = dataclasses.field(kw_only=True)
        a: int

        def __post_init__(self) -> None:
            object.__setattr__(self, "b", self.b + 10)

    return Pair


def by_keyword_in_slots() -> Any:
    return dataclasses.make_dataclass("Pair", [("b", int), ("a", int)], kw_only=True, frozen=True, slots=True)


def with_property() -> Any:
    class Pair:
        __slots__ = ("_a", "b")
        __annotations__ = {"b": int, "a": int}

        @property
        def a(self) -> int:
            return self._a - 1

        @a.setter
        def a(self, value: int) -> None:
            self._a = value + 1

    return dataclasses.dataclass(Pair)


def named_tuple() -> Any:
    return Plain


def named_tuple_with_own_new() -> Any:
    class Pair(Plain):
        def __new__(cls, a: int, b: int) -> Any:
            return super().__new__(cls, a, b + 10)

    return Pair


def named_tuple_with_a_dict() -> Any:
    class Pair(Plain):
        pass

    return Pair


MAKERS: dict[Callable[[], Any], str] = {
    plain_dataclass: "slots",
    by_keyword_in_slots: "slots",
    named_tuple: "tuple",
    **dict.fromkeys((with_post_init, with_own_init, with_own_new, with_inherited_new, with_own_setattr), "call"),
    **dict.fromkeys((with_metaclass, abstract, without_slots, inherited, by_keyword, with_property), "call"),
    **dict.fromkeys((named_tuple_with_own_new, named_tuple_with_a_dict), "call"),
}


@both
@pytest.mark.parametrize("make", MAKERS, ids=lambda make: make.__name__)
def test_an_instance_is_what_the_constructor_makes(native: bool, make: Callable[[], Any]) -> None:
    cls = make()
    assert construction(cls).how == MAKERS[make]
    codec = compiled(Binding("t", PAIR, cls), native=native)
    made = getattr(cls, "made", 0)
    got = codec.decode(HEAD + b"\x02\x04")
    assert getattr(cls, "made", 0) == made + (make in (with_own_new, with_inherited_new))
    usual = cls(1, 2) if issubclass(cls, tuple) or make is with_metaclass else cls(a=1, b=2)
    assert got == usual
    assert type(got) is cls
    assert hash(got) == hash(usual) if cls.__hash__ else True
    assert gc.is_tracked(got) or isinstance(got, tuple)
    assert codec.encode(got) == HEAD + varint(got.a) + varint(got.b)


@both
def test_a_field_that_the_constructor_does_not_take_is_left_to_it(native: bool) -> None:
    @dataclasses.dataclass(slots=True)
    class Pair:
        a: int
        b: int = dataclasses.field(init=False, default=7)

    codec = compiled(Binding("t", PAIR, Pair), native=native)
    assert codec.decode(HEAD + b"\x02\x04") == Pair(1)
    assert codec.encode(Pair(1)) == HEAD + b"\x02\x0e"


@both
def test_a_constructor_may_refuse(native: bool) -> None:
    @dataclasses.dataclass(frozen=True)
    class Pair:
        a: int
        b: int

        def __post_init__(self) -> None:
            if self.a < 0:
                raise ValueError("less than nothing")
            if self.a == 0:
                raise RuntimeError("a bug")

    codec = compiled(Binding("t", PAIR, Pair), native=native)
    with pytest.raises(ValueError, match="less than nothing"):
        codec.decode(HEAD + b"\x01\x04")
    with pytest.raises(RuntimeError, match="a bug"):
        codec.decode(HEAD + b"\x00\x04")


@both
@pytest.mark.parametrize("count", [0, 1, 300])
def test_records_of_any_size(native: bool, count: int) -> None:
    fields = [f"f{n}" for n in range(count)]
    schema = record("Many", **dict.fromkeys(fields, "long"))
    for slots in (True, False):
        cls = dataclasses.make_dataclass("Many", [(f, int) for f in fields], frozen=True, slots=slots)
        codec = compiled(Binding("t", schema, cls), native=native)
        value = cls(*range(count))
        assert codec.decode(codec.encode(value)) == value


# --- values -----------------------------------------------------------------------------------------------------------


class Text(str):
    __slots__ = ()


@both
@pytest.mark.parametrize(
    ("schema", "annotation", "value", "body"),
    [
        ("long", int, True, b"\x02"),
        ("boolean", bool, 1, b"\x01"),
        ("boolean", bool, 0, b"\x00"),
        ("double", float, 1, b"\0\0\0\0\0\0\xf0\x3f"),
        ("string", str, Text("é"), b"\x04\xc3\xa9"),
        ("string", str, "x" * 100_000, varint(100_000) + b"x" * 100_000),
        ("string", str, "é" * 100_000, varint(200_000) + "é".encode() * 100_000),
        (ENUM, str, Text("B"), b"\x02"),
    ],
)
def test_values_that_are_near_enough(native: bool, schema: Any, annotation: Any, value: Any, body: bytes) -> None:
    cls, codec = holding(annotation, schema, native=native)
    assert codec.encode(cls(value)) == HEAD + body
    assert codec.encode(cls(value)) == HEAD + body


@both
@pytest.mark.parametrize(
    ("schema", "annotation", "value"),
    [
        ("long", int, 2**63),
        ("long", int, -(2**63) - 1),
        pytest.param("long", int, 10**5000, id="enormous"),
        ("long", int, 1.0),
        ("long", int, "1"),
        ("long", int, None),
        ("int", int, 2**31),
        ("int", int, -(2**31) - 1),
        ("string", str, b"x"),
        ("string", str, 1),
        ("string", str, "\udc80"),
        ("bytes", bytes, "x"),
        ("bytes", bytes, bytearray(b"x")),
        (FIXED, bytes, b"12"),
        ("boolean", bool, 2),
        ("boolean", bool, []),
        ("double", float, "1"),
        ("float", float, 1e300),
        (ENUM, str, "C"),
        (ENUM, str, []),
        (LONGS, LONGS_HINT, [1]),
        (LONGS, LONGS_HINT, Plain(1, 2)),
        (LONGS, LONGS_HINT, (1, "2")),
        ({"type": "map", "values": "long"}, dict[str, int], ()),
        ({"type": "map", "values": "long"}, dict[str, int], {1: 1}),
        (["null", "long"], int | None, True),
        ("null", type(None), 0),
    ],
)
def test_values_that_are_wrong(native: bool, schema: Any, annotation: Any, value: Any) -> None:
    cls, codec = holding(annotation, schema, native=native)
    with pytest.raises(MISFITS):
        codec.encode(cls(value))


@both
def test_an_empty_slot_and_a_short_tuple_are_misfits(native: bool) -> None:
    cls, codec = holding(int, "long", native=native)
    with pytest.raises(AttributeError):
        codec.encode(object.__new__(cls))
    short = compiled(Binding("t", PAIR, Plain), native=native)
    with pytest.raises(IndexError):
        short.encode(tuple.__new__(Plain, (1,)))


@both
def test_a_dict_that_changes_while_it_is_written_is_no_misfit(native: bool) -> None:
    class Changing:
        def __init__(self, items: dict[str, Any]) -> None:
            self.items = items

        @property
        def x(self) -> int:
            self.items.clear()
            self.items.update({str(n): None for n in range(50)})
            return 1

    inner = dataclasses.make_dataclass("Inner", [("x", int)])
    cls, codec = holding(dict[str, inner], {"type": "map", "values": record("Inner", x="long")}, native=native)
    items: dict[str, Any] = {}
    items |= {"a": Changing(items), "b": Changing(items)}
    with pytest.raises(RuntimeError, match="changed"):
        codec.encode(cls(items))


@both
def test_threads_and_calls_within_calls_share_nothing(native: bool) -> None:
    cls, codec = holding(str, "string", native=native)

    class Slow:
        def __init__(self, text: str) -> None:
            self.text = text

        @property
        def x(self) -> str:
            assert codec.encode(cls(self.text[::-1])) == HEAD + varint(len(self.text)) + self.text[::-1].encode()
            time.sleep(0)
            return self.text

    failures = []

    def run(text: str) -> None:
        for _ in range(300):
            data = codec.encode(Slow(text))
            if data != HEAD + varint(len(text)) + text.encode() or codec.decode(data) != cls(text):
                failures.append(text)

    threads = [threading.Thread(target=run, args=(str(n) * 10 ** (n + 1),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


# --- the extension by itself ------------------------------------------------------------------------------------------


@needs_native
def test_it_keeps_and_loses_no_reference() -> None:
    registry = Registry(SCHEMAS)
    command = Codec(registry, "inventory.command", CommandMessage, inventory.Command)
    follower = Codec(registry, "orders.event", EventMessage, reports.ORDERS.event, strict=False)
    lines = tuple(
        orders.Line(**{f.name: 1 if f.type == "int" else "é" for f in dataclasses.fields(orders.Line)})
        for _ in range(3)
    )
    placed = orders.OrderConfirmed(
        **{f.name: lines if f.name == "lines" else "é" for f in dataclasses.fields(orders.OrderConfirmed)}
    )
    event = EventMessage(1, "c", "k", 5, placed)
    own = Codec(registry, "orders.event", EventMessage, orders.Event | orders.OrderPlacedV1)
    wrong = [TAKE._replace(id=5), TAKE._replace(body=None), TAKE._replace(body=inventory.TakeStock("o", 2**70)), None]
    samples = [(command, command.encode(TAKE)), (own, own.encode(event)), (follower, own.encode(event))]
    every = {"m": {"type": "map", "values": LONGS}, "e": ENUM, "f": FIXED, "d": "double", "g": "float", "b": "bytes"}
    hints = [("m", dict[str, LONGS_HINT]), ("e", str), ("f", bytes), ("d", float), ("g", float), ("b", bytes)]
    rest = dataclasses.make_dataclass("Rest", hints)  # by a call
    program = compiled(Binding("t", record("Rest", **every), rest), native=True)
    samples.append((program, program.encode(rest({"a key": (300, 400), "é": ()}, "A", b"123", 1.5, 0.5, b"x"))))
    blocks = holding(LONGS_HINT, LONGS, native=True)[1]
    samples.append((blocks, HEAD + b"\x02\x82\x10" * 3 + b"\0"))

    def work() -> None:
        for codec, data in samples:
            value = codec.decode(data)
            if codec not in (follower, blocks):
                assert codec.encode(value) == data
            for end in range(len(data)):
                with pytest.raises((UndecodableRecord, *MISFITS)):
                    codec.decode(data[:end])
            with pytest.raises((UndecodableRecord, *MISFITS)):
                codec.decode(data + b"\0")
        for value in wrong:
            with pytest.raises(EncodeError):
                command.encode(value)

    watched = [CommandMessage, inventory.TakeStock, orders.Line, rest, "A", None, True, TAKE, command, command.encode]
    for _ in range(3):
        work()
    gc.collect()
    counts = [sys.getrefcount(one) for one in watched]
    tracemalloc.start()
    try:
        work()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(20):
            work()
        gc.collect()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 4000  # a byte lost a call would be 20 × 500 at least; pytest.raises keeps a little
    assert [abs(sys.getrefcount(one) - count) < 10 for one, count in zip(watched, counts, strict=True)].count(
        False
    ) == 0


@needs_native
def test_a_program_that_holds_itself_is_collected() -> None:
    class Holder:
        program: Any

        def foreign(self, data: Any) -> Any: ...

    holder = Holder()
    binding = Binding("t", PAIR, Plain)
    holder.program = compile_native(binding, HEAD, MISFITS, holder.foreign, lambda _, e: e, lambda _, e: e)
    gone = weakref.ref(holder)
    del holder
    gc.collect()
    assert gone() is None


@needs_native
@pytest.mark.parametrize(
    "nodes",
    [
        (),
        ("long",),
        ((),),
        (("strange",),),
        ((b"long",),),
        (("array", 0),),
        (("array", -1),),
        (("array", 1), ("long",)),
        (("union", (0,), ()),),
        (("union", (0,), (None,)),),
        (("union", ("long",), (None,)),),
        (("fixed", -1),),
        (("fixed", 2**40),),
        (("enum", ("A",), {"A": 1}),),
        (("enum", ["A"], {}),),
        (("long",), ("record", "slots", None, (("a", 0, 0),), ())),
        (("long",), ("record", "none", Plain, (), ())),
        (("long",), ("record", "strange", Plain, (), ())),
        (("long",), ("record", "slots", Plain, (("a", 0, 0),), ())),
        (("long",), ("record", "slots", object, (("a", 0, 0),), ())),
        (("long",), ("record", "slots", plain_dataclass(), (("__doc__", 0, 0),), ())),
        (("long",), ("record", "slots", without_slots(), (("a", 0, 0),), ())),
        (("long",), ("record", "slots", inherited(), (("a", 0, 0), ("b", 0, 1)), ())),
        (("long",), ("record", "tuple", plain_dataclass(), (("a", 0, 0),), ())),
        (("long",), ("record", "tuple", Plain, (("a", 0, 1),), ())),
        (("long",), ("record", "tuple", Plain, (("a", 0, 0), ("b", 0, 0)), ())),
        (("long",), ("record", "tuple", Plain, (("a", 0, 2**50),), ())),
        (("long",), ("record", "call", Plain, (("a", 0, 0),), ("a", "b"))),
        (("long",), ("record", "call", Plain, ("a",), ())),
        (("long",), ("record", "call", Plain, (("a", 0, 0),), (1,))),
        (("long",), ("converted", 1, int, abs, abs, False)),
        (("long",), ("converted", 0, None, abs, abs, False)),
        (("long",), ("converted", 0, int, abs)),
    ],
)
def test_what_is_no_program_is_refused(nodes: Any) -> None:
    from pipeline.adapters.avro._native import Program

    with pytest.raises((ValueError, TypeError, AttributeError)):
        Program(nodes, b"", 0, MISFITS, print, print, print)  # type: ignore[arg-type]


@needs_native
def test_an_error_names_its_cause() -> None:
    codec = Codec(Registry(SCHEMAS), "inventory.command", CommandMessage, inventory.Command)
    with pytest.raises(UndecodableRecord) as read:
        codec.decode(codec.encode(TAKE)[:-1])
    assert isinstance(read.value.__cause__, ValueError)
    with pytest.raises(EncodeError) as written:
        codec.encode(TAKE._replace(id=5))
    assert isinstance(written.value.__cause__, TypeError)
    with pytest.raises(UndecodableRecord):
        codec.decode("text")  # type: ignore[arg-type]


def test_a_schema_nested_too_deep_for_it_is_left_to_python() -> None:
    schema: Any = "long"
    annotation: Any = int
    for n in range(210):
        annotation = dataclasses.make_dataclass(f"R{n}", [("x", annotation)])
        schema = record(f"R{n}", x=schema)
    binding = Binding("t", schema, annotation)
    assert compile_native(binding, HEAD, MISFITS, print, lambda _, e: e, lambda _, e: e) is None
    assert compile_encode(binding, HEAD, MISFITS, lambda _, e: e)(compile_decode(binding)(b"\x02", 0)) == HEAD + b"\x02"


# --- without it -------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(
    shutil.which("cc") is None or not Path(sysconfig.get_paths()["include"], "Python.h").exists(),
    reason="no C compiler, or no headers of Python",
)
def test_it_is_built_where_it_can_be() -> None:
    assert implementation() == "native"


def test_a_missing_extension_is_made_up_for() -> None:
    script = """
import sys
sys.modules["pipeline.adapters.avro._native"] = None
from tests.unit.adapters.test_codec import *
from pipeline.adapters.avro.codec import implementation
codec = Codec(Registry(SCHEMAS), "inventory.command", CommandMessage, inventory.Command)
assert codec.decode(codec.encode(TAKE)) == TAKE
print(implementation())
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=SCHEMAS.parent)
    assert (ran.stdout.strip(), ran.returncode) == ("python", 0), ran.stderr


def test_the_slow_way_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        if is_native():
            warn_if_slow_codec()
            assert not caplog.messages
        monkeypatch.setattr(native_compiler, "_native", None)
        warn_if_slow_codec()
    assert implementation() == "python"
    assert "_native is not built" in caplog.text
