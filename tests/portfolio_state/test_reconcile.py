"""A reading of the venue becomes a snapshot; the venue is right, and differences are told."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from portfolio_state.builders import (
    T0,
    a_fill,
    a_payment,
    a_position,
    a_reading,
    a_transfer,
    an_account,
    an_intent,
    an_order,
    begun,
    knowing,
    own_cloid,
    reconciled,
)
from tradingbot.domain.messages import PositionSide, Side, StateEventKind
from tradingbot.portfolio_state.mirror import Mirror
from tradingbot.portfolio_state.reconcile import READ_EVERY_MS, failed, must_read_fills


def kinds(step) -> list[StateEventKind]:
    return [event.kind for event in step.events]


def test_a_snapshot_is_what_the_venue_said():
    account = an_account(a_position("BTC", "0.01"), a_position("ETH", "-1", px="2500"), equity="9000")
    snapshot = reconciled(Mirror(), a_reading(account, asked_ms=T0 + 5)).snapshot

    assert snapshot.equity_usd == 9000
    assert snapshot.cash_usd == Decimal(9000) - Decimal(500) + Decimal(2500)
    assert snapshot.positions["ETH"].side is PositionSide.SHORT
    assert snapshot.positions["BTC"].mark_px == 50000
    assert snapshot.asof_ms == T0 + 5
    assert snapshot.prices == "synthetic"
    assert snapshot.health.reconcile_ok


sizes = st.decimals(min_value=-1000, max_value=1000, places=5, allow_nan=False)
prices = st.decimals(min_value="0.00001", max_value=200_000, places=6, allow_nan=False)


@given(st.dictionaries(st.sampled_from(["BTC", "ETH", "XYZ"]), st.tuples(sizes, prices)), sizes)
def test_cash_is_equity_minus_the_value_of_the_positions_exactly(held, equity):
    positions = [a_position(symbol, str(size), px=str(px)) for symbol, (size, px) in held.items() if size]
    snapshot = reconciled(Mirror(), a_reading(an_account(*positions, equity=str(equity)))).snapshot

    value = sum((each.qty * each.mark_px for each in snapshot.positions.values()), start=Decimal(0))
    assert snapshot.cash_usd + value == snapshot.equity_usd
    for position in positions:
        assert abs(snapshot.positions[position.symbol].mark_px - position.mark_px) < Decimal("1e-9")


def test_cash_is_not_the_venues_raw_sum_which_leaves_isolated_margin_out():
    account = an_account(a_position(), equity="9000", cash="8000")

    assert reconciled(Mirror(), a_reading(account)).snapshot.cash_usd == 8500


def test_a_delisted_coin_without_a_mid_is_shown_as_external_with_the_venues_own_mark():
    account = an_account(a_position("MATIC", "100", px="0.5"))
    snapshot = reconciled(Mirror(), a_reading(account, mids={"BTC": Decimal(50000)})).snapshot

    assert snapshot.positions["MATIC"].external
    assert snapshot.positions["MATIC"].mark_px == Decimal("0.5")
    assert "MATIC" not in snapshot.mids


def test_positions_that_the_fills_explain_are_no_difference():
    mirror = knowing(begun(), an_intent(qty="0.02"))
    fills = [a_fill(1, size="0.01", cloid=own_cloid()), a_fill(2, size="0.01", cloid=own_cloid())]
    account = an_account(a_position(size="0.02"), time_ms=T0 + 10)
    result = reconciled(mirror, a_reading(account, fills=fills))

    assert kinds(result.step) == [StateEventKind.FILL, StateEventKind.FILL]
    assert result.step.mirror.expected == {"BTC": Decimal("0.02")}


@given(st.lists(st.tuples(st.sampled_from(Side), st.integers(1, 5)), min_size=1, max_size=30), st.data())
def test_an_account_read_between_two_fills_is_no_difference(trades, data):
    """However the reading of the account and of the fills interleave, no difference is invented."""
    fills, position, path = [], Decimal(0), [Decimal(0)]
    for tid, (side, lots) in enumerate(trades, start=1):
        fills.append(a_fill(tid, time_ms=T0 + tid, side=side, size=str(Decimal(lots) / 1000)))
        position += fills[-1].signed_size
        path.append(position)
    mirror, events, seen = begun(), [], 0
    while seen < len(fills):
        at = data.draw(st.integers(seen, len(fills)))
        upto = data.draw(st.integers(max(at, seen + 1), len(fills)))
        held = [a_position(size=str(path[at]))] if path[at] else []
        account = an_account(*held, time_ms=T0 + at)
        result = reconciled(mirror, a_reading(account, fills=fills[:upto], asked_ms=T0 + at))
        mirror, seen = result.step.mirror, upto
        events += kinds(result.step)

    assert StateEventKind.POSITION_DIFF not in events
    assert mirror.expected.get("BTC", Decimal(0)) == path[-1]


def test_a_position_that_no_fill_explains_is_told_at_the_second_reading_and_taken_over():
    account = an_account(a_position(size="0.5"), time_ms=T0 + 10)
    first = reconciled(begun(), a_reading(account))
    second = reconciled(first.step.mirror, a_reading(account))
    third = reconciled(second.step.mirror, a_reading(account))

    assert kinds(first.step) == []
    assert first.snapshot.positions["BTC"].qty == Decimal("0.5")
    assert kinds(second.step) == [StateEventKind.POSITION_DIFF]
    assert second.step.events[0].qty == Decimal("0.5")
    assert kinds(third.step) == []


def test_a_fill_that_the_venue_shows_late_is_no_difference():
    account = an_account(a_position(size="0.01"), time_ms=T0 + 10)
    first = reconciled(begun(), a_reading(account))
    assert must_read_fills(first.step.mirror, account, now_ms=T0)

    second = reconciled(first.step.mirror, a_reading(account, fills=[a_fill(time_ms=T0 + 9)]))

    assert kinds(second.step) == [StateEventKind.FILL]


def test_fills_are_read_only_when_something_moved_and_once_a_minute():
    account = an_account(a_position(size="0.01"))
    mirror = reconciled(Mirror(), a_reading(account)).step.mirror

    assert not must_read_fills(mirror, account, now_ms=T0 + 1)
    assert must_read_fills(mirror, an_account(a_position(size="0.02")), now_ms=T0 + 1)
    assert must_read_fills(mirror, an_account(a_position(size="0.01"), equity="10001"), now_ms=T0 + 1)
    assert must_read_fills(mirror, account, now_ms=T0 + READ_EVERY_MS)


def test_a_deposit_is_no_profit_and_a_withdrawal_no_loss():
    deposit, withdrawal = a_transfer("500", time_ms=T0 + 5), a_transfer("-200", time_ms=T0 + 6, kind="withdraw")
    after = reconciled(begun(), a_reading(an_account(equity="10300", time_ms=T0 + 10), ledger=[deposit, withdrawal]))
    again = reconciled(after.step.mirror, a_reading(an_account(time_ms=T0 + 20), ledger=[deposit, withdrawal]))

    assert after.snapshot.health.deposits_net_usd == 300
    assert after.snapshot.equity_usd - after.snapshot.health.deposits_net_usd == 10000
    assert kinds(after.step) == [StateEventKind.LEDGER] * 2
    assert again.snapshot.health.deposits_net_usd == 300


def test_a_deposit_counts_only_with_the_account_that_shows_it():
    """Counted before it is in the equity, a deposit would look like a loss and halt the bot."""
    late = a_transfer("5000", time_ms=T0 + 11)
    before = reconciled(begun(), a_reading(an_account(time_ms=T0 + 10), ledger=[late]))
    after = reconciled(before.step.mirror, a_reading(an_account(equity="15000", time_ms=T0 + 12), ledger=[late]))

    assert before.snapshot.health.deposits_net_usd == 0
    assert after.snapshot.health.deposits_net_usd == 5000


def test_deposits_from_before_the_bot_began_do_not_count():
    result = reconciled(Mirror(), a_reading(an_account(), ledger=[a_transfer("9", time_ms=T0 - 1)]))

    assert result.snapshot.health.deposits_net_usd == 0


def test_a_failed_reconciliation_repeats_the_last_good_figures_and_says_so():
    good = reconciled(begun(), a_reading(an_account(a_position())))
    step, snapshot = failed(good.step.mirror, good.snapshot, "HTTP 503", now_ms=T0 + 10_000)

    assert snapshot is not None
    assert snapshot.equity_usd == good.snapshot.equity_usd
    assert snapshot.asof_ms == good.snapshot.asof_ms
    assert not snapshot.health.reconcile_ok
    assert snapshot.health.detail == "HTTP 503"
    assert snapshot.health.last_reconcile_ts == good.snapshot.health.last_reconcile_ts
    assert kinds(step) == [StateEventKind.RECONCILE_FAILED]
    assert [audit.kind for audit in step.audits] == ["reconcile_failed"]


def test_failing_is_told_once_and_so_is_recovering():
    first, _ = failed(begun(), None, "down", now_ms=T0)
    second, _ = failed(first.mirror, None, "down", now_ms=T0 + 3000)
    back = reconciled(second.mirror, a_reading(an_account()))

    assert kinds(second) == []
    assert len(second.audits) == 1
    assert kinds(back.step) == [StateEventKind.RECONCILE_RECOVERED]
    assert kinds(reconciled(back.step.mirror, a_reading(an_account())).step) == []


def test_without_any_good_reading_nothing_is_published():
    _, snapshot = failed(Mirror(), None, "down", now_ms=T0)

    assert snapshot is None


def test_an_order_seen_open_and_in_the_position_overstates_and_never_understates_exposure():
    """Orders are read before the account: an order that fills in between shows up twice."""
    mirror = knowing(begun(), an_intent())
    account = an_account(a_position(size="0.01"), time_ms=T0 + 10)
    snapshot = reconciled(mirror, a_reading(account, orders=[an_order(cloid=own_cloid())])).snapshot

    assert snapshot.positions["BTC"].qty + snapshot.open_orders[0].qty == Decimal("0.02")


def test_cash_that_nothing_explains_makes_the_ledger_be_read_with_every_reading_for_a_minute():
    account = an_account(equity="9900", time_ms=T0 + 10)
    mirror = reconciled(begun(), a_reading(account)).step.mirror

    assert must_read_fills(mirror, account, now_ms=T0 + READ_EVERY_MS - 1)
    late = a_transfer("-100", time_ms=T0 + 5, kind="withdraw")
    after = reconciled(mirror, a_reading(account, ledger=[late], asked_ms=T0 + 10_000))
    assert after.snapshot.equity_usd - after.snapshot.health.deposits_net_usd == 10_000


def test_a_payment_that_the_ledger_shows_before_the_account_is_followed_up_as_well():
    mirror = reconciled(begun(), a_reading(an_account(time_ms=T0 + 10), ledger=[a_transfer("500", time_ms=T0 + 5)]))

    assert must_read_fills(mirror.step.mirror, an_account(), now_ms=T0 + 1)


def test_cash_that_a_fill_a_payment_or_funding_explains_needs_no_second_look_at_the_ledger():
    fill = a_fill(size="0.01", fee="0.1", time_ms=T0 + 5)
    account = an_account(a_position(size="0.01"), equity="10499.4", time_ms=T0 + 10)
    reading = a_reading(
        account,
        fills=[fill],
        ledger=[a_transfer("500", time_ms=T0 + 6)],
        funding=[a_payment("-0.5", time_ms=T0 + 7)],
        asked_ms=T0 + 1_000,
    )

    mirror = reconciled(begun(), reading).step.mirror
    assert mirror.deposits_net_usd == 500
    assert not must_read_fills(mirror, account, now_ms=T0 + 1_001)


def test_less_than_a_thousandth_of_equity_is_no_payment():
    account = an_account(equity="9991", time_ms=T0 + 10)
    mirror = reconciled(begun(), a_reading(account, asked_ms=T0 + 1_000)).step.mirror

    assert not must_read_fills(mirror, account, now_ms=T0 + 1_001)
