"""What a cycle came to, for the audit log."""

from __future__ import annotations

from collections import Counter
from decimal import Decimal
from typing import Any

from tradingbot.execution.ledger import Ledger


def plan_summary(ledger: Ledger) -> dict[str, Any]:
    """ACK, REJECT, CANCEL and FILL counts of the plan's orders, what was skipped, and every error's name."""
    assert ledger.plan is not None
    orders = [each for each in ledger.orders.values() if each.plan_key == ledger.plan.key]
    return {
        "cycle_id": ledger.plan.cycle_id,
        "orders": len(orders),
        "outcomes": dict(Counter(str(each.outcome) for each in orders if each.outcome is not None)),
        "fills": sum(len(each.tids) for each in orders),
        "filled_usd": str(sum((each.notional for each in orders), Decimal(0))),
        "fees_usd": str(sum((each.fee for each in orders), Decimal(0))),
        "skipped": dict(Counter(each.skipped for each in ledger.plan.slices if each.skipped is not None)),
        "errors": dict(Counter(each.error for each in orders if each.error is not None)),
    }
