"""Which field of a value does not fit its schema: each kind of misfit is named, however deep it stands."""

import dataclasses
import re
from typing import Any

import pytest

from pipeline.adapters.avro.binding import Binding
from pipeline.adapters.avro.compile_encode import compile_encode
from pipeline.adapters.avro.compile_native import compile_native
from pipeline.adapters.avro.explain import misfit
from tests.unit.adapters.test_codec import HEAD, IMPLEMENTATIONS, MISFITS

ENUM = {"type": "enum", "name": "Colour", "symbols": ["red", "green"]}
MANY = {"type": "enum", "name": "Many", "symbols": [f"s{n}" for n in range(30)]}
FIXED = {"type": "fixed", "name": "Four", "size": 4}
INNER = {"type": "record", "name": "Inner", "fields": [{"name": "shade", "type": ENUM}]}


@dataclasses.dataclass(frozen=True, slots=True)
class Inner:
    shade: str


def array(items: Any) -> Any:
    return {"type": "array", "items": items}


def table(values: Any) -> Any:
    return {"type": "map", "values": values}


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
@pytest.mark.parametrize(
    ("schema", "hint", "value", "says"),
    [
        (ENUM, str, "PURPLE", "Holder.x must be red or green, not 'PURPLE'"),
        (ENUM, str, "", "Holder.x must be red or green, not ''"),
        (["null", ENUM], str | None, "PURPLE", "Holder.x must be red or green, not 'PURPLE'"),
        (MANY, str, "no", "or s19 or another of 30 symbols, not 'no'"),
        (array(ENUM), tuple[str, ...], ("red", "PURPLE"), "Holder.x[1] must be red or green, not 'PURPLE'"),
        (table(ENUM), dict[str, str], {"a": "PURPLE"}, "Holder.x['a'] must be red or green, not 'PURPLE'"),
        (array(INNER), tuple[Inner, ...], (Inner("red"), Inner("PURPLE")), "Holder.x[1].shade must be red or green"),
        (["null", table(INNER)], dict[str, Inner] | None, {"k": Inner("no")}, "Holder.x['k'].shade must be red"),
        (FIXED, bytes, b"123", "Holder.x must have 4 bytes, not 3"),
        (["null", FIXED], bytes | None, b"12345", "Holder.x must have 4 bytes, not 5"),
        (array(FIXED), tuple[bytes, ...], (b"1234", b""), "Holder.x[1] must have 4 bytes, not 0"),
        ("float", float, 1e300, "Holder.x must fit a float of 32 bits"),
        (["null", "float"], float | None, -1e39, "Holder.x must fit a float of 32 bits"),
        (table("float"), dict[str, float], {"a": 0.5, "b": 1e39}, "Holder.x['b'] must fit a float of 32 bits"),
        ("int", int, 2**31, "Holder.x must fit 32 bits, which 2147483648 does not"),
        pytest.param("long", int, 10**5000, "Holder.x must fit 64 bits, which one that", id="too long to be shown"),
        ("string", str, "\ud800", "Holder.x must be text that UTF-8 can hold"),
        ("string", str, None, "Holder.x must be str, not NoneType None"),
        ("bytes", bytes, "text", "Holder.x must be bytes, not str 'text'"),
        (array("string"), tuple[str, ...], ["a"], "Holder.x must be tuple, not list ['a']"),
        (table("string"), dict[str, str], {1: "a"}, "Holder.x must have keys of type str, not int 1"),
        (table("string"), dict[str, str], {"\udfff": "a"}, "Holder.x must have keys that UTF-8 can hold"),
        (["null", table("string")], dict[str, str] | None, {None: "a"}, "Holder.x must have keys of type str, not"),
    ],
)
def test_the_field_is_named_with_what_it_should_be(
    native: bool, schema: Any, hint: Any, value: object, says: str
) -> None:
    cls = dataclasses.make_dataclass("Holder", [("x", hint)], frozen=True, slots=True)
    holder = {"type": "record", "name": "Holder", "fields": [{"name": "x", "type": schema}]}
    binding = Binding("t", holder, cls)

    def explain(wrong: Any, _: Exception) -> Exception:
        return ValueError(misfit(wrong, cls, holder, binding.names) or "nothing is found")

    if native:
        program = compile_native(binding, HEAD, MISFITS, pytest.fail, lambda _, e: e, explain)
        assert program is not None
        encode = program.encode
    else:
        encode = compile_encode(binding, HEAD, MISFITS, explain)
    with pytest.raises(ValueError, match=re.escape(says)):
        encode(cls(value))
