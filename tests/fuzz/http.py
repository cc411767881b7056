"""A real worker of the bank on a real broker: traffic from a seed, every endpoint by schemathesis, then `verify`."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing, suppress

import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.errors import Unsatisfiable
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance, unsupported_method

from pipeline.verify import verify
from tests.bank.traffic import AGREED, ANY_RAISING, BANK, send
from tests.fuzz import command_line
from tests.helpers.support import Shop, until


def ask(address: str, examples: int, number: int, step: Callable[[str], None] = lambda _: None) -> int:
    """Ask every endpoint for what its document says it takes; return of how many. Raises what is not as it says."""
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", wait_for_schema=30)
    fuzz = settings(
        max_examples=examples,
        deadline=None,
        phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck),
        database=None,
    )

    def call(case: schemathesis.Case) -> None:
        answer = case.call(timeout=120)
        # 504: a read that was to wait for less than that takes. A command that fits may be rejected by the aggregate;
        # how a wrong method is refused is the server's.
        assert answer.status_code < 500 or answer.status_code == 504, answer.text
        case.validate_response(
            answer, excluded_checks=[not_a_server_error, positive_data_acceptance, unsupported_method]
        )

    def call_wrongly(case: schemathesis.Case) -> None:
        answer = case.call(timeout=120)
        assert answer.status_code < 500 or answer.status_code == 504, answer.text

    count = 0
    for operation in schema.exclude(path_regex="/watch$").get_all_operations():  # a watch has no end
        asked_for = operation.ok()
        step(asked_for.label)
        seed(number)(fuzz(given(case=asked_for.as_strategy())(call)))()
        with suppress(Unsatisfiable):  # where nothing can be wrong
            wrong = asked_for.as_strategy(generation_mode=GenerationMode.NEGATIVE)
            seed(number)(fuzz(given(case=wrong)(call_wrongly)))()
        count += 1
    return count


def read_all(bank: Shop) -> int:
    """Every row is the same by key, by scan, watched and in history; return how many there are."""
    count = 0
    with bank.query() as client:

        def same(table: str, key: str) -> bool:
            found = client.get(table, key)
            del found["position"]
            ways = [
                client.get_many(table, [key])[0],
                *(row for row in client.scan(table, prefix=key) if row["key"] == key),
            ]
            with closing(client.watch(table, key)) as rows:
                watched = next(rows)
            if table == "accounts":
                (*_, last) = client.history(table, key)
                assert last["version"] >= found["version"]
                past = client.state_as_of(table, key, found["version"])
                assert (past["row"], past["version"]) == (found["row"], found["version"])
            return len(ways) == 2 and ways == [found, found] and watched["row"] == found["row"]

        for service in BANK.services.values():
            for table in service.tables():
                for key in [row["key"] for row in client.scan(table)]:
                    # A deadline may come in between.
                    until(f"{key!r} of {table} is the same row however it is read", lambda t=table, k=key: same(t, k))
                    count += 1
    return count


def judge(bank: Shop) -> str:
    """Wait until all is folded, and hold it to `verify`; return what was checked."""
    bank.settle()
    report = verify(bank.bootstrap, AGREED, patience_s=60)
    assert report.clean, "\n".join(map(str, report.findings))
    return ", ".join(f"{name} {count:,}" for name, count in report.checked.items() if count)


def one_round(bank: Shop, address: str, number: int, examples: int, step: Callable[[str], None]) -> str:
    """Traffic, every endpoint, every row, and the judgement."""
    send(bank.bootstrap, number, 20 * examples)
    bank.settle()
    endpoints = ask(address, examples, number, step)
    bank.settle()
    rows = read_all(bank)
    checked = judge(bank)
    return f"{endpoints} endpoints, {rows} rows; verify: {checked}"


def started(bank: Shop) -> str:
    """The address of a worker of all of the bank."""
    worker = bank.worker("--slot", "0", *ANY_RAISING)
    address: str = until("it serves", worker.addresses)[0]
    return address


def call_there(call: command_line.Call, bank: Shop) -> None:
    """A random call of the command line, where a broker and a worker answer."""
    command_line.check(call, bank.bootstrap)
