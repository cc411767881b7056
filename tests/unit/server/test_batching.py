"""One question for all who ask at the same time; one look for all who wait."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence

import pytest

from pipeline.engine.ports import TP
from pipeline.errors import NotYet, TableUnavailable
from pipeline.flow import Folder
from pipeline.server.reads.batching import Batched, Waiting
from pipeline.server.reads.cluster_offsets import ClusterOffsets


def test_who_asks_during_a_question_gets_the_answer_to_the_next() -> None:
    async def scenario() -> None:
        asked: list[list[str]] = []
        gates = [asyncio.Event() for _ in range(3)]

        async def ask(keys: Collection[str]) -> Mapping[str, int]:
            asked.append(sorted(keys))
            number = len(asked)
            await gates[number - 1].wait()
            return {key: number for key in keys if key != "lost"}

        batched = Batched(ask, lambda key: TableUnavailable(key))
        first = asyncio.create_task(batched.get("a"))
        await asyncio.sleep(0.01)
        others = [asyncio.create_task(batched.get(key)) for key in ("a", "a", "b", "lost")]
        await asyncio.sleep(0.01)
        others[1].cancel()
        for gate in gates:
            gate.set()
        assert await first == 1
        assert await others[0] == await others[2] == 2
        with pytest.raises(TableUnavailable, match="lost"):
            await others[3]
        assert asked == [["a"], ["a", "b", "lost"]]

    asyncio.run(scenario())


def test_those_who_wait_are_woken_by_one_look() -> None:
    async def scenario() -> None:
        at, looks = 0, 0

        def reached(key: str) -> int:
            nonlocal looks
            looks += 1
            if at < 0:
                raise TableUnavailable("gone")
            return at

        waiting = Waiting[str](reached)
        end = asyncio.get_running_loop().time() + 30.0
        tasks = [asyncio.create_task(waiting.past("table", n, end)) for n in range(1000)]
        await asyncio.sleep(0.01)
        looks, at = 0, 500
        waiting.moved()
        assert looks == 1
        await asyncio.sleep(0.01)
        assert [task.done() for task in tasks] == [n < 500 for n in range(1000)]
        assert not await waiting.past("table", 500, asyncio.get_running_loop().time())
        at = -1
        waiting.moved()
        assert all(
            isinstance(each, TableUnavailable) for each in (await asyncio.gather(*tasks, return_exceptions=True))[500:]
        )
        assert waiting.keys == []

    asyncio.run(scenario())


class Broker:
    """Counts what it is asked."""

    def __init__(self) -> None:
        self.offsets: dict[TP, int] = {}
        self.asked = {"committed": 0, "ends": 0, "barriers": 0}

    def committed(self, group: str, partitions: Iterable[TP], patience_s: float) -> Mapping[TP, int]:
        self.asked["committed"] += 1
        assert group == "the-group"
        return {tp: self.offsets[tp] for tp in partitions if tp in self.offsets}

    def ends(self, partitions: Sequence[TP]) -> Mapping[TP, int]:
        self.asked["ends"] += 1
        return dict.fromkeys(partitions, 7)

    def barriers(self, partitions: Collection[TP]) -> Mapping[TP, int]:
        self.asked["barriers"] += 1
        return dict.fromkeys(partitions, 9)

    def partitions(self, topic: str) -> int:
        return 4

    def close(self) -> None: ...


def test_many_readers_ask_the_broker_little_and_by_its_own_names() -> None:
    async def scenario() -> None:
        broker, folder = Broker(), Folder("reports", "users.event", 1)
        names = {"reports": "the-group", "users.event": "crm.users"}
        offset_source = ClusterOffsets(broker, lambda service, tp: None, names)
        end = asyncio.get_running_loop().time() + 30.0
        waits = [asyncio.create_task(offset_source.passed({folder: n % 50}, end)) for n in range(1000)]
        await asyncio.sleep(0.1)
        assert not any(each.done() for each in waits)
        broker.offsets[TP("crm.users", 1)] = 50
        await asyncio.gather(*waits)
        assert broker.asked["committed"] < 20
        before = broker.asked["committed"]
        await offset_source.passed({folder: 49}, end)  # what was passed stays passed
        assert broker.asked["committed"] == before
        assert set(await asyncio.gather(*[offset_source.end(TP("users.event", 1), end) for _ in range(500)])) == {7}
        assert set(await asyncio.gather(*[offset_source.barrier(TP("users.event", 1), end) for _ in range(500)])) == {9}
        assert broker.asked["ends"] + broker.asked["barriers"] <= 4
        with pytest.raises(NotYet, match=r"reports has folded users\.event/1 up to 50, which is not past 50") as caught:
            await offset_source.passed({folder: 50}, asyncio.get_running_loop().time() + 0.05)
        assert caught.value.behind[0]["folded"] == 50
        await offset_source.close()

    asyncio.run(scenario())


def test_a_partition_that_leaves_while_it_is_waited_for_is_asked_for_elsewhere() -> None:
    async def scenario() -> None:
        broker, folder = Broker(), Folder("the-group", "users.event", 1)
        local: int | None = 5
        offset_source = ClusterOffsets(broker, lambda service, tp: local)
        wait = asyncio.create_task(offset_source.passed({folder: 5}, asyncio.get_running_loop().time() + 30.0))
        await asyncio.sleep(0.05)
        assert broker.asked["committed"] == 0
        local, broker.offsets[TP("users.event", 1)] = None, 6
        offset_source.moved()
        await wait
        await offset_source.close()

    asyncio.run(scenario())


def test_who_waits_when_the_worker_ends_hears_it_at_once_and_nobody_is_asked_any_more() -> None:
    async def scenario() -> None:
        broker, folder = Broker(), Folder("the-group", "users.event", 1)
        local: int | None = 5
        offset_source = ClusterOffsets(broker, lambda service, tp: local)
        until_s = asyncio.get_running_loop().time() + 30.0
        waits = [asyncio.create_task(offset_source.passed({folder: 5}, until_s)) for _ in range(3)]
        await asyncio.sleep(0.01)
        await offset_source.close()
        local = None  # the lanes end after this
        offset_source.moved()
        async with asyncio.timeout(5):
            told = await asyncio.gather(*waits, return_exceptions=True)
            with pytest.raises(TableUnavailable, match="stopping"):
                await offset_source.passed({folder: 5}, until_s)
        assert [type(each) for each in told] == [TableUnavailable] * 3
        assert asyncio.all_tasks() == {asyncio.current_task()}  # no poller of what nobody answers

    asyncio.run(scenario())
