"""The tests of examples/noticeboard, as its author runs them, on a real Kafka; and its page in a real browser."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.helpers import browser

EXAMPLE = Path(__file__).parents[2] / "examples" / "noticeboard"
SHOWN = "[...document.querySelectorAll('li')].map(item => item.firstChild.textContent)"
TOLD = "document.querySelector('[role=status]').textContent"
BOBS = {"author": "bob", "text": "<b>a chair</b>"}
POST = "{form.author.value = '%s'; form.text.value = '%s'; form.requestSubmit()}"


def test_the_notice_boards_own_tests(kafka: str) -> None:
    env = {**os.environ, "PIPELINE_BOOTSTRAP": kafka}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
    done = subprocess.run(command, cwd=EXAMPLE, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout[-20_000:] + done.stderr


@pytest.fixture
def site(kafka: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The example's site, as its own tests start it: a worker, and a server of two processes."""
    browser.find()
    monkeypatch.setenv("PIPELINE_BOOTSTRAP", kafka)
    spec = importlib.util.spec_from_file_location("noticeboard_conftest", EXAMPLE / "tests" / "conftest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.PREFIX = ""  # here is no proxy
    made = module.Site(tmp_path)
    try:
        made.start()
        yield made
    finally:
        made.stop()


@pytest.mark.long
def test_its_page_in_a_browser(site: Any, tmp_path: Path) -> None:
    asyncio.run(used(site, tmp_path))


async def used(site: Any, home: Path) -> None:
    """Post and remove notices as a reader of the page does, while somebody else posts, too."""
    address = f"{site.url}/boards/b%C3%BChne-{uuid.uuid4().hex[:8]}"
    async with browser.tab(home) as page:
        await page.opens(address)
        assert (await page.run("document.querySelector('h1').textContent")).startswith("bühne-")
        await page.run(POST % ("anna", "a lamp"))
        await page.until(SHOWN, ["anna: a lamp"])
        await page.until("form.text.value", "")
        httpx.post(f"{address}/notices", json=BOBS, timeout=60).raise_for_status()
        await page.until(SHOWN, ["bob: <b>a chair</b>", "anna: a lamp"])
        await page.run(POST % (" ", "a rug"))
        await page.until(f"{TOLD}.length > 0", True)
        await page.run("document.querySelectorAll('li button')[1].click()")
        await page.until(SHOWN, ["bob: <b>a chair</b>"])
        await page.until(TOLD, "")
        twice = "{form.author.value = 'anna'; form.text.value = 'a vase'; form.requestSubmit(); form.requestSubmit()}"
        await page.run(twice)
        await page.until(SHOWN, ["anna: a vase", "bob: <b>a chair</b>"])
        await page.opens(address)
        await page.until(SHOWN, ["anna: a vase", "bob: <b>a chair</b>"])
        logged = [str(each) for each in page.wrong if "favicon" not in str(each)]
        assert len(logged) == 1, logged
        assert "409" in logged[0], "the refusal, which a browser logs"
        picture = await page.call("Page.captureScreenshot")
        (home / "page.png.base64").write_text(picture["data"])
