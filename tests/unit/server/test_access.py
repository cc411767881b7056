"""Access tokens: kept as hashes, by name, changed while a worker runs, and asked of every request but probes."""

from __future__ import annotations

import asyncio
import logging
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from click.testing import CliRunner, Result

from pipeline.cli import main
from pipeline.client.drive import AsyncDriver, Driver
from pipeline.client.owner_request import HttpCall, problem_of
from pipeline.client.wire.access import LOOK_S as CLIENT_LOOK_S
from pipeline.client.wire.access import Access
from pipeline.errors import AccessTokenError, TableUnavailable, Unauthorized
from pipeline.server.access import tokens as module
from pipeline.server.access.required import presented, required
from pipeline.server.access.tokens import AccessTokens, add, digest_of, read, revoke
from pipeline.server.openapi import document
from pipeline.server.owner.forward import Forwarding
from pipeline.server.web import as_problems
from tests.helpers.market import MARKET


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


class Now:
    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_has_names_and_hashes_and_no_token(file: Path) -> None:
    made = {name: add(file, name) for name in ("web", "laptop")}
    assert file.stat().st_mode & 0o777 == 0o600
    text = file.read_text()
    for name, token in made.items():
        assert re.search(rf"^{name} sha256:{digest_of(token)} 2\d\d\d-\S+Z$", text, re.MULTILINE)
        assert token not in text
    assert made["web"] != made["laptop"]
    revoke(file, "web")
    assert [entry.name for entry in read(file)] == ["laptop"]


def test_what_the_file_cannot_have_is_refused_and_not_shown(file: Path) -> None:
    token = add(file, "web")
    for name in ("", "a b", "-x", "ä", "x" * 65):
        with pytest.raises(AccessTokenError, match="cannot be the name of an access token"):
            add(file, name)
    with pytest.raises(AccessTokenError, match=r"has a token called 'web' already; .* such as web-2"):
        add(file, "web")
    with pytest.raises(AccessTokenError, match="no token called 'other'; it has web"):
        revoke(file, "other")
    good = file.read_text()
    for wrong in (token, f"web {token}", "web sha256:12", good.splitlines()[-1]):
        file.write_text(f"{good}{wrong}\n")
        with pytest.raises(AccessTokenError, match="line 3") as refused:
            read(file)
        assert token not in str(refused.value)
    with pytest.raises(AccessTokenError, match=r"cannot read the access tokens .*pipeline token new NAME --file"):
        read(file.with_name("none"))


def test_a_change_of_the_file_holds_after_a_second_and_a_damaged_one_does_not(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    now, first = Now(), add(file, "first")
    known = AccessTokens(file, now)
    assert (known.caller(first), known.caller("kpt_other"), known.caller("")) == ("first", None, None)
    second = add(file, "second")
    now.seconds += module.LOOK_S
    assert (known.caller(second), known.caller(first)) == ("second", "first")
    revoke(file, "first")
    assert known.caller(first) == "first", "not looked at again within a second"
    now.seconds += module.LOOK_S
    assert known.caller(first) is None
    good = file.read_text()
    file.write_text("nonsense")
    for _ in range(3):
        now.seconds += module.LOOK_S
        assert known.caller(second) == "second"
    assert caplog.text.count("the tokens read before are valid until it is") == 1
    file.write_text(good)
    now.seconds += module.LOOK_S
    assert known.caller(second) == "second"
    assert first not in caplog.text
    assert second not in caplog.text


def test_a_worker_does_not_start_with_a_file_without_tokens(file: Path) -> None:
    file.write_text("# none\n")
    with pytest.raises(AccessTokenError, match="has no access token; make one with: pipeline token new"):
        AccessTokens(file)


# --- the command line -------------------------------------------------------------------------------------------------


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["token", *arguments])


def test_a_token_is_printed_once_and_alone(file: Path) -> None:
    made = call("new", "web", "--file", str(file))
    assert made.exit_code == 0
    (token,) = made.stdout.split()
    assert AccessTokens(file).caller(token) == "web"
    listed = call("list", "--file", str(file))
    assert "web" in listed.stdout
    assert token not in listed.output
    assert call("revoke", "web", "--file", str(file)).exit_code == 0
    assert read(file) == []
    assert call("revoke", "web", "--file", str(file)).exit_code == 2


# --- what a client sends ----------------------------------------------------------------------------------------------


def test_a_client_sends_what_it_is_given_or_what_the_environment_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PIPELINE_TOKEN", raising=False)
    assert Access().headers() == {}
    monkeypatch.setenv("PIPELINE_TOKEN", "kpt_env")
    assert Access().headers() == {"Authorization": "Bearer kpt_env"}
    assert Access("kpt_given").headers() == {"Authorization": "Bearer kpt_given"}
    assert Access(lambda: "kpt_asked").headers() == {"Authorization": "Bearer kpt_asked"}
    assert Access("").headers() == {}
    kept = tmp_path / "token"
    monkeypatch.setenv("PIPELINE_TOKEN", f"@{kept}")
    access = Access()
    with pytest.raises(AccessTokenError, match="cannot read the access token"):
        access.headers()
    kept.write_text("kpt_one\n")
    assert access.headers() == {"Authorization": "Bearer kpt_one"}
    (tmp_path / "next").write_text("kpt_two\n")
    (tmp_path / "next").replace(kept)
    monkeypatch.setattr("pipeline.client.wire.access.LOOK_S", -CLIENT_LOOK_S)
    assert access.headers() == {"Authorization": "Bearer kpt_two"}
    for wrong in ("two words", "line\nbreak", "ümlaut", "x" * 501):
        with pytest.raises(AccessTokenError, match="holds no access token") as refused:
            Access(wrong)
        assert wrong not in str(refused.value)


# --- a worker ---------------------------------------------------------------------------------------------------------


async def served(file: Path | None) -> TestServer:
    """A page that says under which token it was asked, and both probes."""

    async def page(_: web.Request) -> web.Response:
        return web.json_response({"presented": presented()})

    app = web.Application(middlewares=[as_problems, required(None if file is None else AccessTokens(file))])
    app.add_routes([web.get(path, page) for path in ("/v1/status", "/livez", "/readyz")])
    server = TestServer(app)
    await server.start_server()
    return server


def url(server: TestServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def test_every_page_but_the_probes_asks_for_a_token(file: Path, caplog: pytest.LogCaptureFixture) -> None:
    token = add(file, "web")

    async def asked() -> None:
        async with TestClient(await served(file)) as client:
            for path, headers in (
                ("/v1/status", {}),
                ("/v1/status", {"Authorization": "Bearer kpt_wrong"}),
                ("/v1/status", {"Authorization": f"Basic {token}"}),
                ("/v1/status", {"Authorization": token}),
                ("/no/such/page", {}),
                ("/metrics", {}),
            ):
                answer = await client.get(path, headers=headers)
                assert answer.status == 401, path
                assert answer.headers["WWW-Authenticate"] == 'Bearer realm="kafka-pipeline"'
                assert answer.content_type == "application/problem+json"
                told = await answer.json()
                assert (told["error"], told["status"]) == ("Unauthorized", 401)
                assert "PIPELINE_TOKEN" in told["detail"]
                assert "kpt_wrong" not in told["detail"]
            for scheme in ("Bearer", "bearer"):
                answer = await client.get("/v1/status", headers={"Authorization": f"{scheme} {token}"})
                assert (answer.status, (await answer.json())["presented"]) == (200, token)
            for path in ("/livez", "/readyz"):
                assert (await client.get(path)).status == 200

    asyncio.run(asked())
    assert caplog.text.count("refused for their access token") == 1
    assert token not in caplog.text


def test_both_drivers_send_it_and_a_refusal_is_an_error_of_its_own(file: Path) -> None:
    token = add(file, "web")

    async def asked() -> None:
        async with await served(file) as server:
            question = HttpCall(url(server), "/v1/status", {}, 5.0)

            def steps() -> Any:
                return (yield question)

            for given, status in ((token, 200), ("kpt_wrong", 401)):
                thread = Driver(Access(given))
                answer = await asyncio.to_thread(thread.run, steps())
                thread.close()
                loop = AsyncDriver(Access(given))
                again = await loop.run(steps())
                await loop.close()
                assert (answer.status, again.status) == (status, status)
                assert isinstance(problem_of(answer), Unauthorized) == (status == 401)

    asyncio.run(asked())


def test_a_worker_asks_another_under_the_token_of_its_own_caller(file: Path, tmp_path: Path) -> None:
    token, elsewhere = add(file, "web"), tmp_path / "others"
    add(elsewhere, "web")

    async def asked() -> None:
        router: Any = SimpleNamespace(topology=MARKET, forget_all=lambda: None)
        forwarding = Forwarding(router, Access(presented))
        owners = {"same": await served(file), "other": await served(elsewhere)}

        async def page(request: web.Request) -> web.Response:
            owner = url(owners[request.match_info["owner"]])
            reply = await forwarding.ask({}, "partition 0", lambda: owner, "/v1/status", {})
            return web.json_response(reply.body)

        app = web.Application(middlewares=[as_problems, required(AccessTokens(file))])
        app.add_routes([web.get("/{owner}", page)])
        async with TestClient(TestServer(app)) as client:
            sent = {"Authorization": f"Bearer {token}"}
            answer = await client.get("/same", headers=sent)
            assert (answer.status, await answer.json()) == (200, {"presented": token})
            refused = await client.get("/other", headers=sent)
            assert (refused.status, (await refused.json())["error"]) == (503, TableUnavailable.__name__)
            assert "--token-file" in (await refused.json())["detail"]
        await forwarding.close()
        for owner in owners.values():
            await owner.close()

    asyncio.run(asked())


def test_without_a_file_none_is_asked_for_and_what_comes_is_passed_on() -> None:
    async def asked() -> None:
        async with await served(None) as server, aiohttp.ClientSession() as session:
            async with session.get(f"{url(server)}/v1/status") as answer:
                assert await answer.json() == {"presented": None}
            async with session.get(f"{url(server)}/v1/status", headers={"Authorization": "Bearer kpt_x"}) as answer:
                assert await answer.json() == {"presented": "kpt_x"}

    asyncio.run(asked())


@pytest.mark.parametrize("asks", [True, False])
def test_the_document_has_the_scheme(*, asks: bool) -> None:
    told = document(MARKET, asks_for_token=asks)
    assert told["components"]["securitySchemes"]["access_token"] == {"type": "http", "scheme": "bearer"}
    assert told["security"] == [{"access_token": []}, *([] if asks else [{}])]
    for path in ("/livez", "/readyz"):
        assert told["paths"][path]["get"]["security"] == []
    assert "security" not in told["paths"]["/v1/status"]["get"]
