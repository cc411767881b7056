"""A schema registry in this process, with the part of Confluent's interface that is used, and with faults."""

from __future__ import annotations

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

Answer = tuple[int, Any]


class FakeRegistry:
    """Has schemas by id, and ids by subject. `faults` are answered first, `always` instead of all else."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        self.schemas: dict[int, dict[str, Any]] = {}
        self.subjects: dict[str, list[int]] = {}
        self.requests: list[str] = []
        self.credentials: set[str | None] = set()
        self.faults: list[Answer] = []
        self.always: Answer | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'' if tls is None else 's'}://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, subject: str, schema: str, **more: Any) -> int:
        """Register without asking."""
        entry = {"schema": schema, **more}
        number = next((n for n, known in self.schemas.items() if known == entry), len(self.schemas) + 1)
        self.schemas[number] = entry
        self.subjects.setdefault(subject, [])
        if number not in self.subjects[subject]:
            self.subjects[subject].append(number)
        return number

    def answer(self, method: str, path: str, body: Any) -> Answer:
        self.requests.append(f"{method} {path}")
        if self.faults:
            return self.faults.pop(0)
        if self.always is not None:
            return self.always
        match [unquote(part) for part in path.strip("/").split("/")]:
            case ["schemas", "ids", number] if int(number) in self.schemas:
                return 200, self.schemas[int(number)]
            case ["schemas", "ids", _]:
                return 404, {"error_code": 40403, "message": "Schema not found"}
            case ["subjects", subject]:
                found = [n for n in self.subjects.get(subject, ()) if self.schemas[n]["schema"] == body["schema"]]
                if not found:
                    return 404, {"error_code": 40403 if subject in self.subjects else 40401, "message": "not found"}
                return 200, {"subject": subject, "id": found[0], "version": 1, "schema": body["schema"]}
            case ["subjects", subject, "versions"]:
                return 200, {"id": self.add(subject, body["schema"])}
        return 404, {"error_code": 404, "message": "HTTP 404 Not Found"}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                size = int(self.headers.get("Content-Length") or 0)
                body = json.loads(self.rfile.read(size)) if size else None
                registry.credentials.add(self.headers.get("Authorization"))
                status, said = registry.answer(self.command, urlsplit(self.path).path, body)
                data = said.encode() if isinstance(said, str) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_POST = do_GET

            def log_message(self, format: str, *args: Any) -> None:
                pass

        return Handler
