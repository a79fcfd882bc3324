"""An entry of exec.orders that cannot be read or sent ends its order, and neither this process nor the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

import pytest

from support.execution_bench import Bench
from tradingbot.domain.messages import ExecutionReport, OrderIntent, ReportStatus
from tradingbot.execution import actions
from tradingbot.execution.intents import place_intents
from tradingbot.execution.sending import ActionSender

Spoil = Callable[[list[OrderIntent]], list[OrderIntent]]


def spoiled_once(monkeypatch: pytest.MonkeyPatch, spoil: Spoil) -> None:
    """The first PLACE action is written wrongly."""
    left = [spoil]

    def write(action_id: str, orders: Sequence) -> list[OrderIntent]:
        intents = place_intents(action_id, orders)
        return left.pop()(intents) if left else intents

    monkeypatch.setattr(actions, "place_intents", write)


def unreadable(intents: list[OrderIntent]) -> list[OrderIntent]:
    return [intents[0].model_copy(update={"side": "SIDEWAYS"}), *intents[1:]]


def incomplete(intents: list[OrderIntent]) -> list[OrderIntent]:
    return [each.model_copy(update={"action_size": 9}) for each in intents]


def unsendable(intents: list[OrderIntent]) -> list[OrderIntent]:
    return [each.model_copy(update={"limit_px": Decimal("60000.1234567891")}) for each in intents]


async def ends(bench: Bench) -> list[ExecutionReport]:
    return [each for each in await bench.reports() if each.status.terminal]


async def trade_next_cycle(bench: Bench) -> None:
    await bench.next_cycle()
    await bench.approve(BTC=0.12, ETH=0.12)
    await bench.until_reports(lambda found: sum(each.status is ReportStatus.FILLED for each in found) == 2)


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")
@pytest.mark.parametrize(
    ("spoil", "letters", "error"),
    [(unreadable, 2, "unreadable"), (incomplete, 2, "unreadable"), (unsendable, 2, "Unworkable")],
)
async def test_what_cannot_be_read_or_sent_ends_its_orders_at_once_and_trading_goes_on(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, spoil: Spoil, letters: int, error: str
) -> None:
    spoiled_once(monkeypatch, spoil)
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12, ETH=0.12)
        await bench.until_reports(lambda found: sum(each.status.terminal for each in found) == 2)
        found = await ends(bench)
        assert [(each.status, each.error) for each in found] == [(ReportStatus.CANCELED, error)] * 2
        assert await bench.redis.xlen("dlq.exec.orders") == letters
        assert bench.orders_sent() == []
        await trade_next_cycle(bench)


async def test_an_answer_that_cannot_be_read_leaves_the_outcome_unknown_until_the_venue_is_asked(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    send, left = ActionSender._send, [True]

    async def garbled(self: ActionSender, *args: object) -> object:
        result = await send(self, *args)  # type: ignore[arg-type]
        if left:
            left.pop()
            raise LookupError("an answer of another shape")
        return result

    monkeypatch.setattr(ActionSender, "_send", garbled)
    await bench.ready(twap_slices=1)
    async with bench.trading():
        await bench.begun()
        await bench.next_cycle()
        await bench.approve(BTC=0.12, ETH=0.12)
        await bench.tick(3)
        await bench.until_reports(lambda found: sum(each.status is ReportStatus.FILLED for each in found) == 2)

    assert len(bench.orders_sent()) == 1
