"""Fees of the base tier: the venue's documented schedule without volume, staking or referral discounts."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from tradingbot.paper.decimals import cut_to_micro

TAKER_RATE = Decimal("0.00045")
MAKER_RATE = Decimal("0.00015")


def fee_usd(*, px: Decimal, sz: Decimal, crossed: bool) -> Decimal:
    """Notional times rate, cut to the micro-dollar; never negative at this tier."""
    return cut_to_micro(px * sz * (TAKER_RATE if crossed else MAKER_RATE))


def user_fees() -> dict[str, Any]:
    """The answer to ``userFees``."""
    return {
        "dailyUserVlm": [],
        "feeSchedule": {
            "cross": str(TAKER_RATE),
            "add": str(MAKER_RATE),
            "tiers": {"vip": [], "mm": []},
            "referralDiscount": "0.0",
        },
        "userCrossRate": str(TAKER_RATE),
        "userAddRate": str(MAKER_RATE),
        "activeReferralDiscount": "0.0",
    }
