"""A real browser without a window, where the machine has one: Chromium, or Chrome."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession, ClientWebSocketResponse

NAMES = ("chromium", "chromium-browser", "google-chrome")
PATIENCE_S = 120.0
BUDGET_MS = 30_000  # of the page's own time, which passes as fast as the machine can


def find() -> str:
    """Return the browser's program, or skip the test."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip(f"NO BROWSER: none of {', '.join(NAMES)} is here; on Debian: apt-get install chromium")
    return found


def command(home: Path, *arguments: str) -> list[str]:
    """Return what starts it, with a profile of its own."""
    own = ["--headless", f"--user-data-dir={home / 'profile'}", "--no-first-run", "--disable-gpu"]
    return [find(), *own, *(["--no-sandbox"] if os.geteuid() == 0 else []), *arguments]


def dom(address: str, home: Path, *arguments: str) -> str:
    """Return a page as its scripts have made it."""
    asked = [f"--virtual-time-budget={BUDGET_MS}", "--dump-dom", *arguments, address]
    done = subprocess.run(command(home, *asked), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Tab:
    """A page in the browser, driven over its debugging port. `wrong`: what its scripts have not caught, and logged."""

    def __init__(self, socket: ClientWebSocketResponse) -> None:
        self._socket, self._numbers = socket, itertools.count(1)
        self.wrong: list[Any] = []

    async def call(self, method: str, **params: Any) -> Any:
        """Have the browser do something, and return its reply."""
        number = next(self._numbers)
        await self._socket.send_json({"id": number, "method": method, "params": params})
        while True:
            told = await self._socket.receive_json(timeout=PATIENCE_S)
            if told.get("id") == number:
                assert "error" not in told, told
                return told["result"]
            if told["method"] in ("Runtime.exceptionThrown", "Log.entryAdded"):
                self.wrong.append(told["params"])

    async def run(self, script: str) -> Any:
        """Return what JavaScript in the page makes."""
        asked = {"expression": script, "returnByValue": True, "awaitPromise": True}
        told = await self.call("Runtime.evaluate", **asked)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, script: str, wanted: Any) -> None:
        """Wait until JavaScript in the page gives that."""
        end = asyncio.get_running_loop().time() + PATIENCE_S
        while (found := await self.run(script)) != wanted:
            assert asyncio.get_running_loop().time() < end, (script, found, wanted, self.wrong)
            await asyncio.sleep(0.1)

    async def opens(self, address: str) -> None:
        await self.call("Page.navigate", url=address)
        await self.until("document.readyState", "complete")


@asynccontextmanager
async def tab(home: Path) -> AsyncIterator[Tab]:
    """A page in a browser of its own, which ends with it."""
    port = home / "profile" / "DevToolsActivePort"
    process = await asyncio.create_subprocess_exec(
        *command(home, "--remote-debugging-port=0", "about:blank"),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(PATIENCE_S):
            while not (port.exists() and port.read_text().count("\n")):
                assert process.returncode is None, "the browser has ended"
                await asyncio.sleep(0.1)
        async with ClientSession() as http:
            async with http.get(f"http://127.0.0.1:{port.read_text().splitlines()[0]}/json/list") as reply:
                (page,) = [each for each in await reply.json() if each["type"] == "page"]
            async with http.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                made = Tab(socket)
                for domain in ("Page", "Runtime", "Log"):
                    await made.call(f"{domain}.enable")
                yield made
    finally:
        process.terminate()
        await process.wait()
