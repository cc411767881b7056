"""Commands and reads in the views of a Django project; see docs/web.md."""

from pipeline.contrib.django.middleware import PipelineMiddleware, commands, queries
from pipeline.contrib.problems import Refused, accepted

__all__ = ["PipelineMiddleware", "Refused", "accepted", "commands", "queries"]
