"""The site in a real server of two processes, with a real worker and Kafka."""

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import httpx
from conftest import Site

from pipeline.contrib.own_writes.positions import COOKIE, HEADER

RUN = uuid.uuid4().hex[:8]  # the Kafka may have the boards of an earlier run
LOBBY, HALL, ATTIC, CELLAR, YARD = (f"/boards/{name}-{RUN}" for name in ("lobby", "hall", "attic", "cellar", "yard"))
ANNA = f"anna-{RUN}"


def test_what_is_written_is_read_at_once_twenty_times(browser: httpx.Client) -> None:
    for n in range(1, 21):
        posted = browser.post(f"{LOBBY}/notices", json={"author": ANNA, "text": f"notice {n}"})
        assert (posted.status_code, posted.json()) == (201, {"number": n})
        page = browser.get(f"{LOBBY}/notices").json()
        assert page["notices"][0] == {"number": n, "author": ANNA, "text": f"notice {n}"}
        assert browser.get(f"/authors/{ANNA}").json() == {
            "notices": n,
            "last_board": f"lobby-{RUN}",
        }  # behind a repartition
    assert browser.delete(f"{LOBBY}/notices/20").status_code == 204
    assert browser.get(f"{LOBBY}/notices").json()["notices"][0]["number"] == 19


def test_the_server_has_two_processes(site: Site) -> None:
    assert len(set(re.findall(r"Started server process \[(\d+)\]", site.log()))) == 2


def test_below_a_prefix(browser: httpx.Client) -> None:
    started = browser.get("/")
    assert started.headers["location"].endswith("/wall/boards/hall")
    assert "<form>" in browser.get(HALL).text
    cookie = browser.post(f"{HALL}/notices", json={"author": "berta", "text": "a chair"}).headers["set-cookie"]
    assert cookie.startswith(f"{COOKIE}=boards.command%2F")
    assert cookie.endswith("; Path=/wall; Max-Age=3600; HttpOnly; SameSite=Lax")


def test_a_request_that_is_sent_again_has_one_effect(browser: httpx.Client) -> None:
    notice, headers = {"author": "carl", "text": "a table"}, {"Idempotency-Key": "carl-1"}
    first, again = (browser.post(f"{ATTIC}/notices", json=notice, headers=headers) for _ in range(2))
    assert first.status_code == again.status_code == 201
    assert first.json() == again.json() == {"number": 1}
    assert len(browser.get(f"{ATTIC}/notices").json()["notices"]) == 1
    other = browser.post(f"{ATTIC}/notices", json={**notice, "text": "else"}, headers=headers)
    assert (other.status_code, other.json()["reason"]) == (409, "id_reused")


def test_errors_are_problem_documents(browser: httpx.Client) -> None:
    empty = browser.post(f"{HALL}/notices", json={"author": " ", "text": "x"})
    assert (empty.status_code, empty.json()["reason"]) == (409, "empty")
    assert empty.headers["content-type"] == "application/problem+json"
    assert browser.post(f"{HALL}/notices", json={"author": 1}).status_code == 422
    nobody = browser.get("/authors/nobody")
    assert (nobody.status_code, nobody.json()["error"]) == (404, "UnknownKey")


def test_a_cookie_of_another_cluster_is_replaced_and_a_header_refused(browser: httpx.Client) -> None:
    number = browser.post(f"{CELLAR}/notices", json={"author": "dora", "text": "a box"}).json()["number"]
    assert len(browser.get(f"{CELLAR}/notices").json()["notices"]) == 1
    for stolen in ("boards.command%2F0%401000000000", "boards.command%2F9999%401", "others.command%2F0%401", "%00"):
        page = browser.get(f"{CELLAR}/notices", headers={"Cookie": f"{COOKIE}={stolen}"})
        assert page.status_code == 200, page.text
        assert page.json()["notices"][0]["number"] == number
        assert page.headers["set-cookie"].startswith(f"{COOKIE}=; ")
    refused = browser.get(f"{CELLAR}/notices", headers={HEADER: "boards.command/0@1000000000", "Cookie": ""})
    assert (refused.status_code, refused.json()["error"]) == (422, "ForeignToken")


def events(response: httpx.Response) -> Iterator[tuple[str, Any]]:
    """The events of a stream, each with its id."""
    lines = response.iter_lines()
    for line in lines:
        if line.startswith("id: "):
            yield line.removeprefix("id: "), json.loads(next(lines).removeprefix("data: "))


def texts(event: Any) -> list[str]:
    return [notice["text"] for notice in event["row"]["notices"]]


def test_a_live_list_begins_with_ones_own_writes_and_goes_on_later(site: Site, browser: httpx.Client) -> None:
    address = f"{YARD}/live"
    with site.browser() as other:
        browser.post(f"{YARD}/notices", json={"author": "emil", "text": "mine"})
        with browser.stream("GET", address) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            following = events(response)
            seen, first = next(following)
            assert texts(first) == ["mine"]
            other.post(f"{YARD}/notices", json={"author": "frida", "text": "another's"})
            assert texts(next(following)[1]) == ["another's", "mine"]
        with browser.stream("GET", address, headers={"Last-Event-ID": seen}) as response:
            assert texts(next(events(response))[1]) == ["another's", "mine"]
    assert browser.get(address, headers={"Last-Event-ID": "nonsense"}).status_code == 400


def test_the_server_ends_orderly_although_a_stream_is_open(site: Site, browser: httpx.Client) -> None:
    with browser.stream("GET", f"{LOBBY}/live") as response:
        next(events(response))
        site.server.terminate()
        assert site.server.wait(60) == 0
    assert site.log().count("Application shutdown complete") == 2
    assert "Traceback" not in site.log()
