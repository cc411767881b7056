"""Old events at the codec: what it gives out, what it takes in, and what it refuses when it is made."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from pipeline import Aggregate, renamed
from pipeline.adapters.avro.codec import Codec
from pipeline.adapters.avro.registry import Registry
from pipeline.adapters.avro.schemas.compatibility import breaks
from pipeline.client.wire.outcome import Accepted, outcome_of
from pipeline.errors import EncodeError, SchemaError
from pipeline.model import Acceptance, EventMessage, ReplyMessage
from pipeline.model.changes.upcasts import Upcast
from pipeline.server.pages.parked import decoded
from pipeline.verify.sources.decode import event_decoder
from tests.helpers import accounts_split as a
from tests.unit.adapters.test_codec import IMPLEMENTATIONS


@renamed("Transferred")
@dataclass(frozen=True, slots=True)
class TransferredV1:
    amount: int
    fee: int


def today_named_like_it() -> type:
    @dataclass(frozen=True, slots=True)
    class Transferred:
        total: int

    return Transferred


TRANSFERRED: Any = today_named_like_it()


def to_today(old: Any) -> Any:
    return TRANSFERRED(old.amount + old.fee)


RENAMED: Aggregate[Any, Any, Any] = Aggregate(
    "accounts",
    command=a.Transfer | a.Greet,
    event=TRANSFERRED,
    initial=a.Account(),
    decide=a.decide,
    evolve=a.evolve,
    upcasts={TransferredV1: to_today, a.Greeted: a.dropped},
)


def message(body: Any, version: int = 1) -> EventMessage:
    return EventMessage(version, "c", "corr", 5, body)


def written_then(schemas: Path, body: Any) -> bytes:
    return Codec(Registry(schemas), "accounts.event", EventMessage, a.THEN.event).encode(message(body))


def codec(schemas: Path, aggregate: Aggregate[Any, Any, Any], *, native: bool = True) -> Codec:
    return Codec(
        Registry(schemas), "accounts.event", EventMessage, aggregate.event, upcasts=aggregate.upcasts, native=native
    )


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_old_records_are_read_as_events_of_today_and_no_old_event_is_written(tmp_path: Path, native: bool) -> None:
    then, now = a.topologies(tmp_path)
    made = codec(now.schemas, a.NOW, native=native)
    old = a.Transferred(10, 1)
    expected = message(Upcast(old, (a.Withdrawn(10), a.Charged(1))))
    assert made.decode(written_then(then.schemas, old)) == expected
    assert made.decode(made.encode(message(a.Withdrawn(3)))) == message(a.Withdrawn(3))
    with pytest.raises(EncodeError, match="Transferred is an old event, which is read only; give an event of today"):
        made.encode(message(old))
    decoder = event_decoder(Registry(now.schemas), a.NOW.events, follows=False)
    assert decoder.value(written_then(then.schemas, old)) == expected


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_an_old_class_may_stand_for_records_that_have_the_name_of_a_present_one(tmp_path: Path, native: bool) -> None:
    then, now = a.topologies(tmp_path, RENAMED)
    made = codec(now.schemas, RENAMED, native=native)
    assert made.decode(written_then(then.schemas, a.Transferred(10, 1))) == message(TRANSFERRED(11))
    assert made.decode(made.encode(message(TRANSFERRED(7)))) == message(TRANSFERRED(7))
    assert list(breaks(Registry(now.schemas))) == []


def test_a_class_with_the_fields_and_a_name_of_an_old_one_is_refused(tmp_path: Path) -> None:
    """Cents have become euros: records of both would look the same."""

    @dataclass(frozen=True, slots=True)
    class Transferred:
        amount: int
        fee: int

    same: Any = dataclasses.replace(
        RENAMED, event=Transferred, upcasts={TransferredV1: lambda old: Transferred(old.amount // 100, 0)}
    )
    with pytest.raises(SchemaError, match=r"a record named Transferred may be either.*a name of its own"):
        codec(a.topologies(tmp_path, same)[1].schemas, same)


@pytest.mark.parametrize("native", IMPLEMENTATIONS)
def test_what_an_upcaster_gives_has_to_fit_the_schema(tmp_path: Path, native: bool) -> None:
    unfit: Any = dataclasses.replace(a.NOW, upcasts={**a.NOW.upcasts, a.Transferred: lambda old: a.Withdrawn(None)})
    then, now = a.topologies(tmp_path, unfit)
    body = codec(now.schemas, unfit, native=native).decode(written_then(then.schemas, a.Transferred(10, 1))).body
    assert body.events == ()
    assert re.search(r"upcaster of Transferred on accounts.event gave what cannot be stored: .*amount", body.failed)


def test_a_class_of_records_without_class_and_upcaster_is_refused(tmp_path: Path) -> None:
    _, now = a.topologies(tmp_path)
    with pytest.raises(SchemaError, match="'Transferred' has no class; if it is an old event, give"):
        Codec(Registry(now.schemas), "accounts.event", EventMessage, a.NOW.event)


def test_a_follower_says_what_old_records_of_its_classes_are(tmp_path: Path) -> None:
    _, now = a.topologies(tmp_path, RENAMED)
    asked: Any = {"topic": "accounts.event", "root": EventMessage, "body": TRANSFERRED, "strict": False}
    with pytest.raises(SchemaError, match="Transferred is followed, and its records of before are 'TransferredV1' now"):
        Codec(Registry(now.schemas), **asked)
    Codec(Registry(now.schemas), **asked, upcasts=RENAMED.upcasts)


def test_a_reply_of_then_has_events_of_today(tmp_path: Path) -> None:
    then, now = a.topologies(tmp_path)
    accepted = Acceptance(
        2, 2, tuple(written_then(then.schemas, each) for each in (a.Transferred(10, 1), a.Greeted("hi")))
    )
    outcome = outcome_of(
        ReplyMessage("c", "accounts", 0, 7, 5, 5, 0, accepted), {"accounts": codec(now.schemas, a.NOW).decode}
    )
    assert isinstance(outcome, Accepted)
    assert (outcome.version, outcome.events, outcome.complete) == (2, (a.Withdrawn(10), a.Charged(1)), True)


def test_a_parked_record_is_shown_as_it_stands_if_it_is_not_one_event(tmp_path: Path) -> None:
    then, now = a.topologies(tmp_path)
    shown = decoded(codec(now.schemas, a.NOW).decode, written_then(then.schemas, a.Transferred(10, 1)))
    assert shown["body"] == {"type": "Transferred", "amount": 10, "fee": 1}


PART = r"(?:[^()]|\([^()]*\))*"
READS_EVENTS = re.compile(rf"\b\w*(?:[cC]odecs?|make|read|Decoder)\({PART}\bEventMessage,{PART}\)")


def test_whatever_reads_events_is_made_with_the_upcasters() -> None:
    root = Path(__file__).parents[3] / "pipeline"
    made = [text for path in sorted(root.glob("**/*.py")) for text in READS_EVENTS.findall(path.read_text())]
    assert len(made) >= 6
    assert [text for text in made if "upcasts" not in text] == []
