"""For tests of a topology: given events, when a command comes, then these events. No broker, no clock, no wait."""

from pipeline.testing.given import Given, When, given

__all__ = ["Given", "When", "given"]
