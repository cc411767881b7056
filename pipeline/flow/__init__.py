"""The arrows of the pipeline, one pure step per file: values in, values out. No client library, no clock, no I/O."""

from pipeline.flow.ask_to_command import ask_to_command, asked_by, reply_to_command
from pipeline.flow.command_to_deadline import command_position, effects_to_deadlines, is_later, once_due, was_due
from pipeline.flow.command_to_event import command_to_event
from pipeline.flow.command_to_reply import (
    asked_before,
    fingerprint,
    is_old,
    keep_ms,
    last_issue_ms,
    too_late,
    without_metadata,
)
from pipeline.flow.copies import Copies, Find, empty
from pipeline.flow.event_to_command import event_to_command
from pipeline.flow.event_to_row import event_to_messages, event_to_row, late_events, message_to_row
from pipeline.flow.event_to_state import event_to_state
from pipeline.flow.inbox import Inbox, ReservationReply, place_of, reservation_id
from pipeline.flow.lineage import Hop, Lineage
from pipeline.flow.past.as_stored import events_as_stored, rows_as_stored
from pipeline.flow.past.events_to_state import events_to_state, version_at
from pipeline.flow.past.state_difference import ABSENT, Difference, state_difference
from pipeline.flow.row_to_index import row_to_index
from pipeline.flow.token_to_token import Folder, OffsetSource, token_to_token
from pipeline.flow.waiting import RULES, Action, KeyEvent, KeyState, waiting_table

__all__ = [
    "ABSENT",
    "RULES",
    "Action",
    "Copies",
    "Difference",
    "Find",
    "Folder",
    "Hop",
    "Inbox",
    "KeyEvent",
    "KeyState",
    "Lineage",
    "OffsetSource",
    "ReservationReply",
    "ask_to_command",
    "asked_before",
    "asked_by",
    "command_position",
    "command_to_event",
    "effects_to_deadlines",
    "empty",
    "event_to_command",
    "event_to_messages",
    "event_to_row",
    "event_to_state",
    "events_as_stored",
    "events_to_state",
    "fingerprint",
    "is_later",
    "is_old",
    "keep_ms",
    "last_issue_ms",
    "late_events",
    "message_to_row",
    "once_due",
    "place_of",
    "reply_to_command",
    "reservation_id",
    "row_to_index",
    "rows_as_stored",
    "state_difference",
    "token_to_token",
    "too_late",
    "version_at",
    "waiting_table",
    "was_due",
    "without_metadata",
]
