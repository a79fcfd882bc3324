"""What bots take from one another, as an operator counts it that has just begun."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

from support.operator_bus import bot_of
from tradingbot_operator.accounts import Accounts
from tradingbot_operator.desk import Desk
from tradingbot_operator.memory import Memory
from tradingbot_operator.tenancy import Tenancy
from tradingbot_operator.weight import Weights

EXCHANGE = {"network": "testnet", "accountAddress": "0x" + "1a" * 20, "privateKeySecretRef": {"name": "agent"}}
SPEC = {"exchange": EXCHANGE, "dryRun": True}


def test_a_bot_that_was_refused_its_account_does_not_count_when_an_operator_begins() -> None:
    refused = {"conditions": [{"type": "AccountInUse", "status": "True", "message": "held"}]}
    bodies: list[dict[str, Any]] = [
        {"metadata": {"namespace": "trading", "name": "majors"}, "spec": SPEC},
        {"metadata": {"namespace": "trading", "name": "second"}, "spec": SPEC, "status": refused},
    ]
    desk = SimpleNamespace(cache=SimpleNamespace(bots=lambda: bodies))
    weights, bot = Weights(1100), bot_of(SPEC)
    Tenancy(cast(Desk, desk), cast(Accounts, None), weights).divide_weight(bot, Memory(bot=bot, born_s=0.0))
    assert weights.share(bot.key).per_min == 1100
