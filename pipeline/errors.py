"""Every error the pipeline raises on purpose, in one tree.

A message says what is wrong, where, and the cure. Four bases say what a caller can do about it:

    Retryable      the same call may succeed later
    BadInput       the caller has to change what it gave
    NotFound       what was named does not exist
    NeedsOperator  an operator has to repair or decide something first

`http_status` is the status of an error that leaves a worker's page. The command line prints an error as one line and
exits with 2, or with 1 if starting again may help. Any other exception that reaches the top is a bug and keeps its
traceback.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from pipeline.model.records.token import Token


class PipelineError(Exception):
    """Base of all errors that a user can cause or cure."""

    http_status: ClassVar[int] = 503


class Retryable(PipelineError):
    """A call that may succeed later, with nothing changed."""


class BadInput(PipelineError):
    """What the caller gave cannot be used; the call would fail again."""

    http_status = 400


class NotFound(PipelineError):
    """What was named does not exist."""

    http_status = 404


class NeedsOperator(PipelineError):
    """The system cannot go on by itself: an operator must repair or decide something. Nothing is lost meanwhile."""


class Ending(BaseException):
    """The end of a process, or of a simulated one, wherever its code is. Whoever catches it only cleans up."""


# --- what an author or a user gives ---------------------------------------------------------------------------------


class ClientConfigError(BadInput):
    """The file with the settings of the connection to a cluster cannot be used."""


class DefaultsError(BadInput):
    """The file with the defaults of the command line cannot be used."""


class UnfitAddress(BadInput):
    """An address cannot be listened on, or told to others."""


class AccessTokenError(BadInput):
    """An access token, or the file that it is in, cannot be used."""


class Unauthorized(BadInput):
    """The worker asks for an access token that it knows, and the request has none."""

    http_status = 401


class TopologyError(BadInput):
    """A topology cannot be loaded, or its declarations contradict each other."""

    http_status = 500


class SchemaError(BadInput):
    """A schema, the manifest or a message class does not fit the others."""

    http_status = 500


class EncodeError(SchemaError):
    """A value does not fit the schema that it is to be written with."""

    http_status = 422


class InputFileError(BadInput):
    """The file given to the demo is missing or has another format."""


class ExportFileError(BadInput):
    """A file of exported records cannot be read, or does not have what is asked of it."""


class ImportRefused(BadInput):
    """Records cannot be imported there without damage to what a service keeps. Nothing was imported."""


class BackupError(BadInput):
    """A backup cannot be read, is damaged, or is not of what it is to be used for."""


class RestoreRefused(BadInput):
    """A backup cannot be restored there without damage to what is there."""


class BackupUnreachable(Retryable):
    """The directory or object store of a backup does not answer. Files that are there stay."""


class ServicesBusy(Retryable):
    """There was no moment at which all services had committed what they folded. Nothing was backed up."""


class ScaffoldError(BadInput):
    """A project, or a part of one, cannot be made there or under that name. Nothing was written."""


class DemoFolderError(BadInput):
    """The folder given to the demo has foreign contents, is in use, or cannot be written."""


# --- commands -------------------------------------------------------------------------------------------------------


class InvalidCommand(BadInput):
    """A command cannot be sent as it is; nothing was sent."""

    http_status = 422


class UnknownAggregate(InvalidCommand, NotFound):
    """No service in the topology has an aggregate of that name."""

    http_status = 404


class Overloaded(Retryable):
    """A queue is full: too many commands, replies or readers wait. Try again later."""


class NoReply(PipelineError):
    """A command was sent, and its reply did not arrive in time. Its outcome is unknown.

    `stored`: the command's position token, or None if not even that is known. Sent again with the same `command_id` and
    `issued_ms`, the command has no second effect; without them it may have, so this is not Retryable. `parked`: the
    cause, if the command is parked; the reply follows once it is redriven or discarded. `held`: why the service decides
    nothing at present, and the cure, if it is held.
    """

    def __init__(
        self,
        message: str,
        command_id: str,
        issued_ms: int,
        stored: Token | None,
        parked: str | None = None,
        held: str | None = None,
    ) -> None:
        super().__init__(message)
        self.command_id, self.issued_ms, self.stored = command_id, issued_ms, stored
        self.parked, self.held = parked, held


# --- reads ----------------------------------------------------------------------------------------------------------


class BadRequest(BadInput):
    """A request's parameters cannot be used."""


class InvalidMoment(BadInput):
    """The text is neither a version nor a time."""


class InvalidToken(BadInput):
    """The text is no position token."""


class ForeignToken(BadInput):
    """The position token names topics that the table is not made from."""

    http_status = 422


class NoSuchConsistency(BadInput):
    """The table cannot give the requested consistency."""


class UnfitValue(BadInput):
    """A worker's answer does not fit the class that the client has for it: one of them runs other code."""


class UnknownTable(NotFound):
    """No service in the topology has a table of that name."""


class UnknownKey(NotFound):
    """The table has no row of that key, or the history no event of it or no such version."""


class UnknownCommand(NotFound):
    """No command, event or request of that id is among what was looked at."""


class NoHistory(NotFound):
    """The aggregate is declared to keep no history, or the name is no aggregate's."""


class NoDeadlines(NotFound):
    """The aggregate is declared to take no deadlines, or the name is no aggregate's."""


class HistoryIncomplete(NotFound):
    """The event log no longer holds all events that the result is made of."""

    http_status = 410


class NotParked(NotFound):
    """No such record is parked under that key; it may have been redriven or discarded since."""


class CopyHeld(PipelineError):
    """A replica's `evolve` raises on an event of that key: the row lacks it and all later ones, which wait."""

    http_status = 409


class TableUnavailable(Retryable):
    """No worker can answer for the key's partition right now: it is moving or being restored."""


class Contended(TableUnavailable):
    """Several keys could not be read at one moment in time: transactions hold something in them, or they change."""


class NotYet(Retryable):
    """The table did not reach the requested position in time.

    `behind` lists each lagging service, its offset, and why it is held, if it is.
    """

    http_status = 504

    def __init__(self, message: str, behind: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(message)
        self.behind = behind


# --- records and code -----------------------------------------------------------------------------------------------


class UndecodableRecord(PipelineError):
    """A record's bytes do not match its topic's schema. The lane parks such a record."""


class NotKnownYet(UndecodableRecord):
    """A record that others write, and this code cannot read yet. The lane waits for its schema, or for newer code.

    `published`: whether its schema is known, so that it is the code that lacks something.
    """

    def __init__(self, why: str, *, published: bool = False) -> None:
        super().__init__(why)
        self.published = published


class UpcastFailed(PipelineError):
    """An upcaster or a migration raises, or gives what is not of today. The lane parks such a record."""

    http_status = 500


class Misplaced(PipelineError):
    """A record's key belongs to another partition than that in which it stands. The lane parks such a record."""


class FoldError(NeedsOperator):
    """A topology's functions raise where no operator can resume: in a test driver, a rebuild, or a history."""

    http_status = 500


# --- the broker and the lane ----------------------------------------------------------------------------------------


class BrokerUnreachable(Retryable):
    """No Kafka broker answers at the given address."""


class RegistryUnreachable(Retryable):
    """No schema registry answers at the given URL."""


class RegistryRefused(NeedsOperator):
    """The schema registry says no: to these credentials, or because something else answers at its URL."""


class TransactionAborted(Retryable):
    """The open transaction cannot be committed. Its records are folded again from the last commit."""


class RecordRefused(TransactionAborted):
    """The broker refuses one of the transaction's records, and would refuse it again."""


class RowRefused(RecordRefused):
    """A row that the topology has made does not fit its schema."""


class LaneFatal(Retryable):
    """The lane's producer or group membership is gone for good. Another lane continues from the last commit."""


class OutcomeUnknown(LaneFatal):
    """The outcome of the last transaction is unknown. The next lane reads what was committed."""


class StoreDamaged(LaneFatal):
    """A local table cannot be read or written. Opened again, it is restored from Kafka."""


class Superseded(LaneFatal):
    """Another worker has opened the partition's tables in the database, and writes what this one had to write."""


class DatabaseUnreachable(LaneFatal):
    """The database of a service's tables does not answer. Nothing is lost meanwhile."""


class TopicError(NeedsOperator):
    """A topic is missing, or its partitions do not fit those of its neighbours."""


class PartitionsChanged(TopicError):
    """A topic has another number of partitions than when its records were first folded: its keys would move."""


class RecordsLost(NeedsOperator):
    """Kafka no longer holds the records that the service has to fold next, or the offset that says which these are."""


class ServiceRuns(NeedsOperator):
    """What was asked for may be done only while no worker of the service runs. Nothing was done."""


class NameTaken(NeedsOperator):
    """Another worker, from another home directory, is in the group under this one's name. Nothing was taken from it."""


# --- the machine ----------------------------------------------------------------------------------------------------


class LocalBrokerError(NeedsOperator):
    """The project's own local Kafka cannot be fetched, started or stopped."""


class StateDirectoryError(NeedsOperator):
    """The directory of the local tables cannot be used."""


class OutOfDescriptors(StateDirectoryError):
    """The process has as many files open as its limit allows. Its tables are whole; raise the limit."""


class DatabaseUnusable(NeedsOperator):
    """The database of a service's tables answers, but cannot be used as it is."""


class TracingUnusable(BadInput):
    """Spans cannot be exported as the environment says."""
