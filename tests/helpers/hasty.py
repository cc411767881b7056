"""The shop without its reports; and the same in haste: its checkouts wait for seconds instead of an hour."""

from __future__ import annotations

from dataclasses import replace

from pipeline.model import linear_saga, two_phase_saga
from pipeline.topology import load
from topologies import checkout_2pc as votes
from topologies import checkout_saga as steps

CHECKOUTS = ("checkout_saga", "checkout_2pc")
HASTE_S = 10.0
SHOP = load("topologies").only("users", "orders", "inventory", "payments", *CHECKOUTS)
SAGA = linear_saga(
    "checkout_saga",
    state=steps.Checkout(),
    begin=steps.BeginCheckout,
    begun=steps.begun,
    asks=steps.ASKS,
    versions={1: [replace(step, timeout_s=HASTE_S) for step in steps.STEPS]},
)
TWO_PHASE = two_phase_saga(
    "checkout_2pc",
    state=votes.Checkout(),
    begin=votes.BeginCheckout,
    begun=votes.begun,
    asks=votes.ASKS,
    works=votes.works,
    vote_s=HASTE_S,
)
HASTY = replace(
    SHOP,
    services=SHOP.services
    | {
        "checkout_saga": replace(steps.service, sagas=[SAGA]),
        "checkout_2pc": replace(votes.service, sagas=[TWO_PHASE]),
    },
)
