"""Values of the classes in tests/typed, of every type that a message may have."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import strategies as st

from tests.typed import accounts as a
from tests.typed import trees as t

SPANS = st.timedeltas(timedelta(-(10**8)), timedelta(10**8))  # microseconds have 64 bits
ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30)), timezone(timedelta(hours=-8))])
MOMENTS = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=ZONES)
MONEY = st.decimals(-(10**15), 10**15, places=2)
TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=10)
COMMANDS = st.builds(
    a.Open,
    id=st.uuids(),
    iban=TEXT,
    balance=MONEY,
    opened_at=MOMENTS,
    birthday=st.dates(),
    called_at=st.times(),
    notice=SPANS,
    tier=st.sampled_from(a.Tier),
    currency=st.sampled_from(a.Currency),
    colour=st.sampled_from(["red", "blue"]),
    vip=st.booleans(),
    children=st.integers(-(2**63), 2**63 - 1),
    rating=st.floats(allow_nan=False, allow_infinity=False),
    portrait=st.binary(max_size=10),
    names=st.lists(TEXT, max_size=3),
    limits=st.lists(st.builds(a.Limit, MONEY, SPANS), max_size=2).map(tuple),
    rates=st.dictionaries(TEXT, MONEY, max_size=2),
    last_seen=st.none() | st.dates() | MOMENTS,
    note=st.none() | TEXT | st.integers(-(2**63), 2**63 - 1),
)

BRANCHES = st.recursive(
    st.builds(t.Branch, TEXT, MONEY, st.none() | st.dates()),
    lambda inner: st.builds(t.Branch, TEXT, MONEY, st.none() | st.dates(), st.lists(inner, max_size=3).map(tuple)),
    max_leaves=10,
)
