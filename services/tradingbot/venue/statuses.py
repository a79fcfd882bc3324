"""Every status word of the venue's orders: terminal or not, our word for it, and why it was refused.

A word that this version does not know and that ends in Canceled, Cancel or Rejected is terminal: an order must never
stay "open" here only because the venue has learnt a new reason to end it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from tradingbot.domain.messages import ReportStatus
from tradingbot.venue import errors

_OPEN = ("open", "triggered")
_CANCELED = (
    "canceled",
    "marginCanceled",
    "vaultWithdrawalCanceled",
    "openInterestCapCanceled",
    "selfTradeCanceled",
    "reduceOnlyCanceled",
    "siblingFilledCanceled",
    "delistedCanceled",
    "liquidatedCanceled",
    "outcomeSettledCanceled",
    "scheduledCancel",
    "internalCancel",
)
_REJECTED: Mapping[str, type[errors.OrderRefused]] = MappingProxyType(
    {
        "rejected": errors.OrderRefused,
        "tickRejected": errors.BadTick,
        "minTradeNtlRejected": errors.MinNotional,
        "perpMarginRejected": errors.InsufficientMargin,
        "reduceOnlyRejected": errors.ReduceOnlyWouldIncrease,
        "badAloPxRejected": errors.PostOnlyWouldMatch,
        "iocCancelRejected": errors.IocNoMatch,
        "badTriggerPxRejected": errors.BadTrigger,
        "marketOrderNoLiquidityRejected": errors.NoLiquidity,
        "positionIncreaseAtOpenInterestCapRejected": errors.OpenInterestCapped,
        "positionFlipAtOpenInterestCapRejected": errors.OpenInterestCapped,
        "tooAggressiveAtOpenInterestCapRejected": errors.OpenInterestCapped,
        "openInterestIncreaseRejected": errors.OpenInterestCapped,
        "insufficientSpotBalanceRejected": errors.InsufficientSpotBalance,
        "oracleRejected": errors.PriceTooFar,
        "perpMaxPositionRejected": errors.PositionLimit,
        "tooManyOpenOrdersRejected": errors.TooManyOpenOrders,
    }
)

KNOWN_STATUSES: Mapping[str, ReportStatus] = MappingProxyType(
    {
        **dict.fromkeys(_OPEN, ReportStatus.ACK),
        "filled": ReportStatus.FILLED,
        **dict.fromkeys(_CANCELED, ReportStatus.CANCELED),
        **dict.fromkeys(_REJECTED, ReportStatus.REJECTED),
    }
)


def report_status(status: str) -> ReportStatus:
    """Our word for a status of the venue; an unknown word that does not sound terminal counts as open."""
    if known := KNOWN_STATUSES.get(status):
        return known
    folded = status.casefold()
    if folded.endswith("rejected"):
        return ReportStatus.REJECTED
    if folded.endswith(("canceled", "cancelled", "cancel")):
        return ReportStatus.CANCELED
    return ReportStatus.ACK


def is_terminal(status: str) -> bool:
    """True when an order with this status can no longer change."""
    return report_status(status).terminal


def refusal_of(status: str) -> errors.OrderRefused | None:
    """The typed error behind a refusing status; None for any other."""
    if report_status(status) is not ReportStatus.REJECTED:
        return None
    return _REJECTED.get(status, errors.OrderRefused)(status)
