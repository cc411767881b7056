"""The web application: a page that reads its own writes and follows those of others, and the same as JSON."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from fastapi import FastAPI, Header, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse

from noticeboard.boards import PostNotice, RemoveNotice, boards
from noticeboard.pages import Author, Page, authors, pages
from pipeline.contrib.fastapi import Clients, Commands, Queries, accepted, event_stream
from pipeline.errors import UnknownKey

HTML = (Path(__file__).parent / "board.html").read_text()
WAIT_S = 10

clients = Clients()  # the topology and Kafka that pipeline.toml or the environment name
app = FastAPI(title="Notice board", lifespan=clients.lifespan)
clients.install(app)


@app.get("/", include_in_schema=False)
def index(request: Request) -> RedirectResponse:
    return RedirectResponse(request.url_for("board_page", board="hall"))


@app.get("/boards/{board}", response_class=HTMLResponse)
def board_page(board: str) -> str:
    return HTML


@app.post("/boards/{board}/notices", status_code=201)
async def post(board: str, notice: PostNotice, commands: Commands) -> dict[str, int]:
    outcome = accepted(await commands.send(boards, board, notice, wait=WAIT_S))
    return {"number": outcome.events[0].number}


@app.delete("/boards/{board}/notices/{number}", status_code=204)
async def remove(board: str, number: int, commands: Commands) -> Response:
    accepted(await commands.send(boards, board, RemoveNotice(number), wait=WAIT_S))
    return Response(status_code=204)


@app.get("/boards/{board}/notices")
async def notices(board: str, queries: Queries) -> Page:
    try:
        return (await queries.get(pages, board)).row
    except UnknownKey:
        return Page()


@app.get("/boards/{board}/live")
async def live(
    board: str, queries: Queries, last_event_id: Annotated[str | None, Header()] = None
) -> StreamingResponse:
    return await event_stream(queries.watch(pages, board, last_event_id))


@app.get("/authors/{author}")
async def author(author: str, queries: Queries) -> Author:
    return (await queries.get(authors, author)).row
