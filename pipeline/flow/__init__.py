"""The arrows of the pipeline, one pure step per file: values in, values out. No client library, no clock, no I/O."""

from pipeline.flow.command_to_event import command_to_event
from pipeline.flow.command_to_reply import asked, asked_before, fingerprint, is_old, keep_ms, last_issue_ms, too_late
from pipeline.flow.event_to_command import event_to_command
from pipeline.flow.event_to_state import event_to_state
from pipeline.flow.events_to_state import events_to_state, version_at
from pipeline.flow.message_to_owed import NOTHING, Due, ask_to_command, reply_to_message, state_to_due
from pipeline.flow.state_difference import ABSENT, Difference, state_difference
from pipeline.flow.state_to_projection import event_to_messages, message_to_row

__all__ = [
    "ABSENT",
    "NOTHING",
    "Difference",
    "Due",
    "ask_to_command",
    "asked",
    "asked_before",
    "command_to_event",
    "event_to_command",
    "event_to_messages",
    "event_to_state",
    "events_to_state",
    "fingerprint",
    "is_old",
    "keep_ms",
    "last_issue_ms",
    "message_to_row",
    "reply_to_message",
    "state_difference",
    "state_to_due",
    "too_late",
    "version_at",
]
