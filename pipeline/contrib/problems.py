"""What a web page replies where a command was rejected, or where the clients raise: the same as a worker."""

from __future__ import annotations

from pipeline.client.wire.outcome import Accepted, Outcome
from pipeline.errors import NoReply, PipelineError, Unauthorized
from pipeline.model import Rejected
from pipeline.server.endpoint import Reply, problem
from pipeline.server.replies import RETRY, error_reply, outcome_reply, unknown_reply


class Refused(PipelineError):
    """A command was rejected, and the page has nothing else to say than that. `outcome` says why."""

    http_status = 409

    def __init__(self, outcome: Rejected) -> None:
        super().__init__(f"the command was rejected: {outcome.reason}")
        self.outcome = outcome


def accepted(outcome: Outcome) -> Accepted:
    """Return the outcome if the command was accepted. Raises Refused, which becomes a problem document with 409."""
    if isinstance(outcome, Rejected):
        raise Refused(outcome)
    return outcome


def reply_to(error: PipelineError) -> Reply:
    """Return the reply of a page that has raised this error.

    A problem document; of a command whose outcome is not known yet, what is known of it, with 202.
    """
    match error:
        case Refused():
            return outcome_reply(error.outcome)
        case NoReply():
            return unknown_reply(error)
        case Unauthorized():  # it is not the browser that lacks something
            return problem(503, str(error), type(error).__name__, RETRY)
        case _:
            return error_reply(error)
