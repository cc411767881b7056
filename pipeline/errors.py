"""Every error the pipeline raises on purpose, in one tree.

A message says what is wrong, where, and the cure. The command line prints it as one line and exits with 2; anything
else that reaches the top is a bug and keeps its traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pipeline.model.records.token import Token


class PipelineError(Exception):
    """Base of all errors a user can cause or cure."""


class ClientConfigError(PipelineError):
    """The file that says how to get into a cluster cannot be used."""


class TopologyError(PipelineError):
    """A topology cannot be loaded, or what it declares contradicts itself."""


class SchemaError(PipelineError):
    """A schema, the manifest or a message class does not fit the others."""


class EncodeError(SchemaError):
    """A value does not fit the schema it is to be written with."""


class InvalidCommand(PipelineError):
    """A command cannot be sent as it is; nothing was sent."""


class UnknownAggregate(InvalidCommand):
    """No service in the topology has an aggregate of that name."""


class Overloaded(PipelineError):
    """More waits to be sent or answered than there is room for; later there is."""


class NoReply(PipelineError):
    """A command was sent, and what became of it was not told in time.

    `stored`: the position token of where it stands; None where not even that is known. Sent again with the
    same `command_id` and `issued_ms`, it has no second effect. `parked`: why it is put aside, where it is: the outcome
    follows once somebody has it redriven or discarded.
    """

    def __init__(
        self, message: str, command_id: str, issued_ms: int, stored: Token | None, parked: str | None = None
    ) -> None:
        super().__init__(message)
        self.command_id, self.issued_ms, self.stored, self.parked = command_id, issued_ms, stored, parked


class UndecodableRecord(PipelineError):
    """A record's bytes are not what its topic's schema promises. The lane parks such a record."""


class TopicError(PipelineError):
    """A topic is missing, or its partitions do not fit those of its neighbours."""


class BrokerUnreachable(PipelineError):
    """No Kafka broker answers at the given address."""


class LocalBrokerError(PipelineError):
    """The project's own local Kafka cannot be fetched, started or stopped."""


class StateDirectoryError(PipelineError):
    """The directory of the local tables cannot be used."""


class OutOfDescriptors(StateDirectoryError):
    """The process has as many files open as it may have. What it holds is whole; more have to be allowed."""


class NameTaken(PipelineError):
    """Another worker, which lives elsewhere, has this one's name in its group. Nothing was taken from it."""


class FoldError(PipelineError):
    """A topology's own functions raise so often that the code is at fault. The lane stops; nothing is lost."""


class TransactionAborted(PipelineError):
    """The open transaction cannot be committed; what it held is to be folded again from the last commit."""


class RecordRefused(TransactionAborted):
    """As TransactionAborted, because the broker refuses one of the records, and would refuse it again."""


class RowRefused(RecordRefused):
    """As RecordRefused, because a row that the topology has made does not fit its schema."""


class LaneFatal(PipelineError):
    """The lane's producer or group membership is gone for good; the lane has to be opened again."""


class OutcomeUnknown(LaneFatal):
    """Whether the last transaction was committed is not known; reading what is stored tells."""


class StoreDamaged(LaneFatal):
    """A local table gives errors when it is read or written; opened again, it is restored from Kafka."""


class Superseded(LaneFatal):
    """Another worker has opened the partition's tables in the database: what this one had to write, that one has."""


class DatabaseUnreachable(LaneFatal):
    """The database of a service's tables does not answer. It comes back, and nothing is lost meanwhile."""


class DatabaseUnusable(PipelineError):
    """The database of a service's tables answers, but cannot be used as it is. A person must see to it."""


class RecordsLost(PipelineError):
    """Kafka no longer holds what the service has to fold next, or where it has got to. A person must decide."""


class UnknownTable(PipelineError):
    """No service in the topology has a table of that name."""


class UnknownKey(PipelineError):
    """The table holds no row under that key; or the history no event of it, or no such version."""


class NoHistory(PipelineError):
    """The aggregate is declared to keep no history, or what is asked for is no aggregate."""


class NoDeadlines(PipelineError):
    """The aggregate is declared to take no deadlines, or what is asked for is no aggregate."""


class InvalidMoment(PipelineError):
    """What is given is neither a version nor a time."""


class HistoryIncomplete(PipelineError):
    """The event log does not hold all the events any more that the answer is made of."""


class NotParked(PipelineError):
    """No such record is parked under that key; it may have been redriven or discarded by now."""


class TableUnavailable(PipelineError):
    """No worker can answer for the key's partition right now (it is moving or restoring); asking again helps."""


class Contended(TableUnavailable):
    """Several keys could not be read as one in time: transactions hold something in them, or they change; ask again."""


class BadRequest(PipelineError):
    """A request's parameters cannot be used."""


class InvalidToken(PipelineError):
    """What is given is no position token."""


class ForeignToken(PipelineError):
    """A position token of topics that the table is not made from."""


class NoSuchConsistency(PipelineError):
    """The table cannot give the consistency that is asked for."""


class NotYet(PipelineError):
    """A table has not got in time to where it is to be read. `behind`: who is how far from there, for machines."""

    def __init__(self, message: str, behind: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.behind = behind


class InputFileError(PipelineError):
    """The file given to the demo is missing or is not of the format it reads."""


class DemoFolderError(PipelineError):
    """The folder given to the demo holds what is not its own, is in use, or cannot be written."""
