"""Takes the steps of a question: over HTTP, in a thread or in an event loop."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Generator
from typing import TYPE_CHECKING, Any, TypeVar

import httpx
from yarl import URL

from pipeline.client.owner_request import Answer, Blocking, HttpCall, Sleep

if TYPE_CHECKING:
    from aiohttp import ClientSession

T = TypeVar("T")
Step = Sleep | Blocking | HttpCall


def drive(http: httpx.Client, steps: Generator[Step, Any, T]) -> T:
    """What the steps come to."""
    told: Any = None
    raised: Exception | None = None
    try:
        while True:
            step = steps.send(told) if raised is None else steps.throw(raised)
            try:
                told, raised = _taken(http, step), None
            except Exception as error:
                raised = error
    except StopIteration as done:
        value: T = done.value
        return value


async def drive_async(http: ClientSession, steps: Generator[Step, Any, T]) -> T:
    """The same in an event loop."""
    told: Any = None
    raised: Exception | None = None
    try:
        while True:
            step = steps.send(told) if raised is None else steps.throw(raised)
            try:
                told, raised = await _taken_async(http, step), None
            except Exception as error:
                raised = error
    except StopIteration as done:
        value: T = done.value
        return value


def _taken(http: httpx.Client, step: Step) -> Any:
    if isinstance(step, Sleep):
        return time.sleep(step.seconds)
    if isinstance(step, Blocking):
        return step.function()
    try:
        return _answer(http.request(**_request(step)))
    except httpx.HTTPError:
        return None


async def _taken_async(http: ClientSession, step: Step) -> Any:
    from aiohttp import ClientError, ClientTimeout  # slow to load, and threads do without

    if isinstance(step, Sleep):
        return await asyncio.sleep(step.seconds)
    if isinstance(step, Blocking):
        return await asyncio.to_thread(step.function)
    url = URL(step.holder + step.path, encoded=True)  # the key is quoted already
    try:
        async with http.request(
            "GET" if step.body is None else "POST",
            url.with_query(step.query) if step.query else url,
            json=step.body,
            timeout=ClientTimeout(total=step.timeout_s),
        ) as response:
            body = await response.json(content_type=None) if "json" in response.content_type else None
            return Answer(response.status, body, response.headers)
    except (ClientError, TimeoutError):
        return None


def _request(question: HttpCall) -> dict[str, Any]:
    asked: dict[str, Any] = {"params": question.query} if question.query else {}
    asked |= {"timeout": question.timeout_s, "url": question.holder + question.path}
    return {**asked, "method": "GET"} if question.body is None else {**asked, "method": "POST", "json": question.body}


def _answer(response: httpx.Response) -> Answer:
    is_json = "json" in response.headers.get("Content-Type", "")
    return Answer(response.status_code, response.json() if is_json else None, response.headers)
