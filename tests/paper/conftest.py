"""A paper exchange on prices set by hand, and two funded wallets."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from support.paper import Paper, SetPrices, Trader, paper_exchange

ALICE_KEY = "0x" + "11" * 32
BOB_KEY = "0x" + "33" * 32
ALICE = "0x19e7e376e7c213b7e7e7e46cc70a5dd086daff2a"
BOB = "0x5cbdd86a2fa8dc4bddd8a8f69dba48572eec07fb"


@pytest.fixture
def prices() -> SetPrices:
    return SetPrices()


@pytest.fixture
async def paper(prices: SetPrices) -> AsyncIterator[Paper]:
    async with paper_exchange(prices=prices, accounts=[ALICE, BOB], order_status_lag_ms=0) as exchange:
        yield exchange


@pytest.fixture
def alice(paper: Paper) -> Trader:
    return Trader(paper, ALICE_KEY)


@pytest.fixture
def bob(paper: Paper) -> Trader:
    return Trader(paper, BOB_KEY)
