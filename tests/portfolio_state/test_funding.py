"""Funding is told once, whenever and in whatever pages it is read."""

from __future__ import annotations

from portfolio_state.builders import T0, a_payment, a_reading, an_account, begun, reconciled
from tradingbot.domain.messages import StateEventKind
from tradingbot.portfolio_state.funding import HOUR_MS, LATE_MS, funding_due

NEXT_HOUR = T0 - T0 % HOUR_MS + HOUR_MS


def read_at(mirror, venue_ms: int, *payments):
    return reconciled(mirror, a_reading(an_account(time_ms=venue_ms), funding=payments, asked_ms=venue_ms)).step


def test_it_is_asked_for_once_an_hour_a_while_after_it():
    mirror = read_at(begun(), T0 + LATE_MS).mirror
    assert not funding_due(mirror, venue_ms=NEXT_HOUR + LATE_MS - 1)
    assert funding_due(mirror, venue_ms=NEXT_HOUR + LATE_MS)

    after = read_at(mirror, NEXT_HOUR + LATE_MS).mirror

    assert not funding_due(after, venue_ms=NEXT_HOUR + LATE_MS + 1)
    assert funding_due(after, venue_ms=NEXT_HOUR + HOUR_MS + LATE_MS)


def test_what_a_page_repeats_is_told_once_and_what_it_left_out_is_told_later():
    """A page may end between two coins of one hour."""
    bitcoin, ether = (a_payment(time_ms=NEXT_HOUR + 50, symbol=symbol) for symbol in ("BTC", "ETH"))
    first = read_at(begun(), NEXT_HOUR + LATE_MS, bitcoin)
    second = read_at(first.mirror, NEXT_HOUR + HOUR_MS + LATE_MS, bitcoin, ether)
    third = read_at(second.mirror, NEXT_HOUR + 2 * HOUR_MS + LATE_MS, bitcoin, ether)

    told = [[event.symbol for event in step.events] for step in (first, second, third)]
    assert told == [["BTC"], ["ETH"], []]
    assert {event.kind for event in (*first.events, *second.events)} == {StateEventKind.FUNDING}


def test_the_event_bears_the_venues_amount_and_sign():
    (event,) = read_at(begun(), NEXT_HOUR + LATE_MS, a_payment("-0.5", time_ms=NEXT_HOUR + 50)).events

    assert (event.qty, event.at_ms) == (a_payment("-0.5", time_ms=0).usd, NEXT_HOUR + 50)


def test_payments_from_before_the_mirror_began_are_not_told():
    assert not read_at(begun(), NEXT_HOUR + LATE_MS, a_payment(time_ms=T0)).events
