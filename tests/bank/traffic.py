"""What customers ask of the bank, from a seed: every type, odd keys, and functions that raise or are slow on demand."""

from __future__ import annotations

import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from pipeline.client import Client
from pipeline.topology import load
from tests.bank.services import accounts as a
from tests.bank.services import transfers as t

NAME = "tests.bank.services"
BANK = load(NAME)
AGREED = replace(BANK, invariants=())  # who makes up transfers may give two of them one id
ANY_RAISING = ("--raising-share", "1")  # what raises was asked for, and is no reason to hold a service
KEYS = ("anna", "bob", "..", ".", "a/b c", "line\nbreak", "%2e%2e", "😀" * 128, "Ünï·cödé", "\x1b[31m", "a\0b", " ")
TEXTS = ("", "“ü”", "type", "a\nb", "😀", "[bold]", "\x7f", "null", "AAAA")
WHERE = ("decide", "evolve", "react", "route", "project", "replica")
MEMOS = (
    *(f"raise in {where} until mended" for where in WHERE),
    *(f"time out in {where}" for where in WHERE),
    # What raises in a replica for ever holds its key for ever; in evolve, it is the command that is parked.
    *(f"raise in {where}" for where in ("decide", "evolve", "react", "route", "project")),
    *(f"slow 1 ms in {where}" for where in WHERE),
)


def narrow(rng: random.Random) -> float:
    """A float of 32 bits, or one that has to be rounded to it."""
    value = rng.choice((0.0, -0.0, 0.1, 1e-45, 3.4e38, rng.uniform(-9, 9)))
    found: float = struct.unpack("f", struct.pack("f", value))[0]
    return found if rng.random() < 0.5 else value


def post(rng: random.Random) -> a.Post:
    return a.Post(rng.choice(TEXTS), rng.randbytes(3), narrow(rng))


def phone(rng: random.Random) -> a.Phone:
    return a.Phone(rng.choice(TEXTS), rng.randrange(-(2**63), 2**63))


def profile(rng: random.Random) -> a.Profile:
    """Any profile that its schema holds."""
    integers = [rng.choice((0, -1, 2**31 - 1, -(2**31))) for _ in range(3)]
    longs = [rng.choice((0, -1, 2**63 - 1, -(2**63), 1_700_000_000_000)) for _ in range(3)]
    return a.Profile(
        rng.choice(TEXTS),
        rng.randbytes(rng.randrange(4)),
        rng.choice((b"\0\0\0\1", b"\xff\xfe\0\n")),
        rng.choice(("BASIC", "GOLD", "BLACK")),
        rng.random() < 0.5,
        integers[0],
        longs[0],
        narrow(rng),
        rng.choice((0.1, -1e308, 5e-324, 7.0)),
        longs[1],
        longs[2],
        integers[1],
        integers[2],
        rng.randbytes(rng.randrange(1, 4)),
        rng.choice(("3f2504e0-4f89-11d3-9a0c-0305e82c3301", "no uuid")),
        rng.choice((None, *TEXTS)),
        rng.choice((None, 0.5, -1e300)),
        rng.choice((None, "text", b"\xff\0", 2**62, True, "")),
        rng.choice((None, phone(rng), post(rng))),
        phone(rng),
        tuple(post(rng) for _ in range(rng.randrange(3))),
        {rng.choice(TEXTS): narrow(rng) for _ in range(rng.randrange(3))},
        rng.choice((phone(rng), {"a": b"\0", "": b""}, {})),
        {rng.choice(TEXTS): (None, post(rng))[: rng.randrange(3)] for _ in range(rng.randrange(2))},
    )


def asked(rng: random.Random, keys: Sequence[str], number: int, memos: Sequence[str] = MEMOS) -> tuple[str, str, Any]:
    """A command. `number`: each of a history has its own; `memos`: what functions are to do on demand."""
    key, dice = rng.choice(keys), rng.random()
    memo = rng.choice(memos) if memos and rng.random() < 0.15 else rng.choice(TEXTS)
    amount = rng.choice((1, 7, 10, 55, 200))
    if dice < 0.15:
        return "accounts", key, a.Describe(profile(rng), memo)
    if dice < 0.4:
        save_to = rng.choice((None, None, rng.choice(keys)))
        return "accounts", key, a.Deposit(amount, save_to, f"receipt-{number}", memo)
    if dice < 0.5:
        return "accounts", key, a.Withdraw(amount, memo)
    if dice < 0.75:
        name = f"transfer-{number}"
        return "transfers", name, t.BeginTransfer(name, key, rng.choice(keys), amount, memo)
    if dice < 0.85:
        return "limits", f"limit {key[:9]}", t.SetLimit(key, narrow(rng), memo)
    if dice < 0.9:
        return "accounts", key, a.Freeze(rng.choice((0, 0.3, 2)))
    if dice < 0.95:
        return "accounts", key, a.CloseAccount()
    return "accounts", key, a.OpenAccount(rng.choice(("GB1", "DE2", f"FR{number}")), profile(rng))


def commands(rng: random.Random) -> Iterator[tuple[str, str, Any]]:
    """What customers ask in one history: each opens an account, most with an IBAN of their own."""
    keys = rng.sample(KEYS, rng.choice((1, 2, 4)))
    for number, key in enumerate(keys):
        yield "accounts", key, a.OpenAccount(f"GB{number}", profile(rng))
        yield "accounts", key, a.Deposit(rng.choice((0, 100, 1000)), None, f"first-{number}", "")
    for number in range(rng.randrange(2, 10)):
        yield asked(rng, keys, number)


def send(bootstrap: str, number: int, count: int) -> None:
    """Store the commands of a seed, some of which raise or are slow; each number has transfers of its own."""
    rng = random.Random(f"traffic {number}")
    with Client(bootstrap, BANK) as client:
        for nth, key in enumerate(KEYS):
            client.send("accounts", key, a.OpenAccount(f"IBAN{nth}", profile(rng)))
            client.send("accounts", key, a.Deposit(1_000))
        for nth in range(count):
            client.send(*asked(rng, KEYS, number * 1_000_000 + nth))
        client.flush()
