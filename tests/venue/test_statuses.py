import pytest

from tradingbot.domain.messages import ReportStatus
from tradingbot.venue import errors
from tradingbot.venue.statuses import KNOWN_STATUSES, is_terminal, refusal_of, report_status

OPEN = ["open", "triggered"]
CANCELED = [
    "canceled",
    "marginCanceled",
    "vaultWithdrawalCanceled",
    "openInterestCapCanceled",
    "selfTradeCanceled",
    "reduceOnlyCanceled",
    "siblingFilledCanceled",
    "delistedCanceled",
    "liquidatedCanceled",
    "scheduledCancel",
    "outcomeSettledCanceled",
    "internalCancel",
]
REJECTED = [
    "rejected",
    "tickRejected",
    "minTradeNtlRejected",
    "perpMarginRejected",
    "reduceOnlyRejected",
    "badAloPxRejected",
    "iocCancelRejected",
    "badTriggerPxRejected",
    "marketOrderNoLiquidityRejected",
    "positionIncreaseAtOpenInterestCapRejected",
    "positionFlipAtOpenInterestCapRejected",
    "tooAggressiveAtOpenInterestCapRejected",
    "openInterestIncreaseRejected",
    "insufficientSpotBalanceRejected",
    "oracleRejected",
    "perpMaxPositionRejected",
    "tooManyOpenOrdersRejected",
]


@pytest.mark.parametrize("status", OPEN)
def test_an_order_at_work_is_acknowledged_and_not_terminal(status):
    assert report_status(status) is ReportStatus.ACK
    assert not is_terminal(status)


@pytest.mark.parametrize("status", CANCELED)
def test_every_kind_of_cancel_ends_an_order(status):
    assert report_status(status) is ReportStatus.CANCELED
    assert is_terminal(status)
    assert refusal_of(status) is None


@pytest.mark.parametrize("status", REJECTED)
def test_every_kind_of_rejection_ends_an_order_with_a_typed_error(status):
    assert report_status(status) is ReportStatus.REJECTED
    assert is_terminal(status)
    assert isinstance(refusal_of(status), errors.OrderRefused)


def test_a_filled_order_is_filled():
    assert report_status("filled") is ReportStatus.FILLED
    assert is_terminal("filled")


def test_the_table_knows_every_documented_word():
    assert set(KNOWN_STATUSES) == {*OPEN, *CANCELED, *REJECTED, "filled"}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        ("solarFlareCanceled", ReportStatus.CANCELED),
        ("governanceCancel", ReportStatus.CANCELED),
        ("tooQuietRejected", ReportStatus.REJECTED),
    ],
)
def test_a_new_word_that_ends_like_an_end_is_an_end(status, expected):
    assert report_status(status) is expected
    assert is_terminal(status)


def test_a_new_word_that_does_not_sound_like_an_end_leaves_the_order_open():
    assert not is_terminal("pondering")


def test_a_new_rejection_is_still_a_typed_refusal():
    assert type(refusal_of("tooQuietRejected")) is errors.OrderRefused
