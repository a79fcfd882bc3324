"""Each invariant holds on sound evidence and is seen to be broken when one thing in it is."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support import case
from tradingbot.bus.names import Stream
from tradingbot.domain import messages as m
from tradingbot.domain.modes import ModeSource
from tradingbot.replay.evidence import Evidence, Record
from tradingbot.replay.invariants.secrecy import FINGERPRINT, fingerprint, holds
from tradingbot.replay.verify import all_hold, judge

KEY = "4c0883a69102937d6231471b5dbb6204fe5129617082792ae468d01a3f362318"


def verdict(evidence: Evidence, name: str):
    (found,) = [each for each in judge(evidence) if each.name == name]
    return found


def is_broken(evidence: Evidence, name: str) -> bool:
    found = verdict(evidence, name)
    assert (found.holds is False) == bool(found.against)
    return found.holds is False


def test_all_invariants_hold_on_a_sound_cycle() -> None:
    verdicts = judge(case.sound())

    assert [each.name for each in verdicts] == [f"I{number}" for number in range(1, 15)]
    assert [each for each in verdicts if each.holds is False] == []
    assert all_hold(verdicts)


def test_i1_two_orders_under_one_cloid() -> None:
    again = case.log("order", 9, cloid=case.CLOID, oid=8, status="open")

    assert is_broken(case.with_log(case.sound(), *case.venue_log(), again), "I1")


def test_i1_two_intents_of_one_attempt() -> None:
    twice = [case.record(Stream.ORDERS, case.intent(), at=at) for at in (50, 55)]

    assert is_broken(case.with_stream(case.sound(), Stream.ORDERS, twice), "I1")


def halted(
    *, order_at_ms: int, reason: str = "slice", resumed_at_ms: int | None = None, then: str = "NORMAL"
) -> Evidence:
    """HALT is acknowledged at START + 100, perhaps a source lets go; an order reaches the venue at ``order_at_ms``."""
    details = {"received_at": case.START_MS + 90, "cancelled_at": case.START_MS + 95, "acked_at": case.START_MS + 100}
    audits = [case.record(Stream.AUDIT, m.AuditRecord(kind="halt", details=details), at=100)]
    if resumed_at_ms is not None:
        went_on = m.AuditRecord(kind="mode", details={"before": "HALT", "after": then})
        audits.append(case.record(Stream.AUDIT, went_on, at=205, ts_ms=resumed_at_ms + 5))
    evidence = case.with_stream(case.sound(), Stream.AUDIT, audits)
    evidence = case.with_stream(
        evidence, Stream.ORDERS, [case.record(Stream.ORDERS, case.intent(reason=reason), at=50)]
    )
    if resumed_at_ms is not None:
        resume = m.ControlCommand(command=m.Command.RESUME, command_id="r", source=ModeSource.PERSON)
        evidence = case.with_stream(
            evidence, Stream.COMMANDS, [case.record(Stream.COMMANDS, resume, at=200, ts_ms=resumed_at_ms)]
        )
    first, *rest = case.venue_log()
    return case.with_log(evidence, {**first, "at_ms": order_at_ms}, *rest)


def test_i2_an_order_after_the_acknowledgement_of_halt() -> None:
    assert is_broken(halted(order_at_ms=case.START_MS + 150), "I2")
    assert not is_broken(halted(order_at_ms=case.START_MS + 50), "I2")


def test_i2_flatten_orders_and_orders_after_resume_are_right() -> None:
    assert not is_broken(halted(order_at_ms=case.START_MS + 150, reason="FLATTEN"), "I2")
    for order_at_ms in (case.START_MS + 202, case.START_MS + 300):
        assert not is_broken(halted(order_at_ms=order_at_ms, resumed_at_ms=case.START_MS + 200), "I2")


def test_i2_an_order_while_another_source_still_holds_the_halt() -> None:
    resumed = halted(order_at_ms=case.START_MS + 300, resumed_at_ms=case.START_MS + 200, then="HALT")

    assert is_broken(resumed, "I2")


def test_i3_another_position_at_the_venue() -> None:
    evidence = case.sound()
    assert evidence.venue is not None

    assert is_broken(replace(evidence, venue=replace(evidence.venue, positions={"BTC": Decimal(1)})), "I3")
    assert is_broken(replace(evidence, venue=replace(evidence.venue, positions={})), "I3")


@pytest.mark.parametrize("missing", [Stream.TARGET, Stream.APPROVED, Stream.PLAN, Stream.REPORTS])
def test_i4_an_entry_without_its_output(missing: Stream) -> None:
    assert is_broken(case.with_stream(case.sound(), missing, ()), "I4")


def test_i4_an_entry_that_was_acknowledged_as_stale_or_said_why_is_right() -> None:
    without = case.with_stream(case.sound(), Stream.PLAN, ())
    (approved,) = without.streams[Stream.APPROVED]
    stale = m.AuditRecord(
        kind="stale_cycle", details={"stream": "risk.approved", "first_id": approved.id, "last_id": approved.id}
    )
    told = m.AuditRecord(kind="exec.plan", cause=case.CYCLE)

    for record in (stale, told):
        assert not is_broken(case.with_stream(without, Stream.AUDIT, [case.record(Stream.AUDIT, record, at=45)]), "I4")
    elsewhere = case.record(Stream.AUDIT, told, at=45, source="market_data")
    assert is_broken(case.with_stream(without, Stream.AUDIT, [elsewhere]), "I4")


@pytest.mark.parametrize("missing", [Stream.TARGET, Stream.APPROVED, Stream.PLAN])
def test_i5_an_order_without_a_decision(missing: Stream) -> None:
    assert is_broken(case.with_stream(case.sound(), missing, ()), "I5")


def test_i5_an_intent_of_a_dead_lease() -> None:
    orders = [
        case.record(Stream.ORDERS, case.intent(lease_token=2), at=50),
        case.record(Stream.ORDERS, case.intent(lease_token=1, attempt=1), at=55),
    ]

    assert is_broken(case.with_stream(case.sound(), Stream.ORDERS, orders), "I5")


@pytest.mark.parametrize("qty", ["0.016", "0.05"])
def test_i6_an_intent_beyond_the_cap(qty: str) -> None:
    orders = [case.record(Stream.ORDERS, case.intent(qty=Decimal(qty)), at=50)]

    assert is_broken(case.with_stream(case.sound(), Stream.ORDERS, orders), "I6")


def test_i6_open_orders_count_together() -> None:
    other = case.intent(client_order_id="other", cloid="0x1", qty=Decimal("0.014"))
    orders = [case.record(Stream.ORDERS, other, at=45), case.record(Stream.ORDERS, case.intent(), at=50)]

    assert is_broken(case.with_stream(case.sound(), Stream.ORDERS, orders), "I6")


def test_i7_something_is_pending() -> None:
    evidence = case.sound()
    (group,) = evidence.groups

    assert is_broken(replace(evidence, groups=(replace(group, pending=1),)), "I7")
    assert is_broken(replace(evidence, groups=(replace(group, lag=1),)), "I7")


def test_i8_the_venue_saw_intents_of_a_symbol_in_another_order() -> None:
    later = case.intent(client_order_id="later", cloid="0x2")
    orders = [case.record(Stream.ORDERS, case.intent(), at=50), case.record(Stream.ORDERS, later, at=55)]
    swapped = [
        case.log("action", entry, type="order", admitted=True, cloids=[cloid])
        for entry, cloid in enumerate(("0x2", case.CLOID))
    ]

    assert is_broken(case.with_log(case.with_stream(case.sound(), Stream.ORDERS, orders), *swapped), "I8")
    assert not is_broken(case.with_log(case.with_stream(case.sound(), Stream.ORDERS, orders), *reversed(swapped)), "I8")


def test_i9_a_key_in_a_log_is_found(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys" / FINGERPRINT).write_text(fingerprint(KEY))
    (tmp_path / "keys" / "agent.key").write_text(KEY)
    (tmp_path / "clean.log").write_text("0x" + "ab" * 32)
    evidence = replace(case.sound(), folder=tmp_path)

    assert verdict(evidence, "I9").holds is True

    (tmp_path / "other.log").write_bytes(b"\x00junk 0x" + KEY.upper().encode() + b"ff")

    assert is_broken(evidence, "I9")


@given(before=st.binary(max_size=80), after=st.binary(max_size=80))
def test_i9_a_key_is_found_between_any_bytes(before: bytes, after: bytes) -> None:
    assert holds(before + KEY.encode() + after, fingerprint(KEY))


def test_i10_a_record_that_the_log_does_not_explain() -> None:
    evidence = case.sound()

    assert is_broken(replace(evidence, dedup={case.NAME: {"0": '{"status": "ACK"}'}}), "I10")
    assert is_broken(replace(evidence, dedup={}), "I10")
    assert is_broken(replace(evidence, snapshot=case.snapshot(Decimal(3))), "I10")


def test_i11_an_outcome_that_was_made_up() -> None:
    absent = case.report(m.ReportStatus.CANCELED, Decimal(0), error="absent", exchange_order_id=None)
    evidence = case.with_stream(case.sound(), Stream.REPORTS, [case.record(Stream.REPORTS, absent, at=60)])

    assert is_broken(evidence, "I11")
    assert is_broken(case.with_log(case.sound()), "I11")


def test_i11_an_order_that_never_was_and_is_not_at_the_venue_is_right() -> None:
    absent = case.report(m.ReportStatus.CANCELED, Decimal(0), error="absent", exchange_order_id=None)
    evidence = case.with_stream(case.sound(), Stream.REPORTS, [case.record(Stream.REPORTS, absent, at=60)])
    refused = case.log("order", 2, cloid=case.CLOID, oid=7, status="minTradeNtlRejected")

    assert not is_broken(case.with_log(evidence), "I11")
    assert not is_broken(case.with_log(evidence, refused), "I11")


def test_i11_an_order_that_is_said_to_have_ended_and_is_open() -> None:
    evidence = case.sound()
    assert evidence.venue is not None

    assert is_broken(replace(evidence, venue=replace(evidence.venue, open_orders=({"cloid": case.CLOID},))), "I11")


def test_i13_a_message_that_does_not_validate_unless_it_is_a_dead_letter() -> None:
    evidence = case.sound()
    bad = Record("1-0", "{", None, "not JSON")
    broken = case.with_stream(evidence, Stream.TARGET, (*evidence.streams[Stream.TARGET], bad))
    letter = m.DeadLetter(
        stream="alpha.target",
        group="risk_grp",
        entry_id="1-0",
        payload="{",
        reason="not JSON",
        error_type="Permanent",
        retry_count=0,
        failed_at=case.from_ms(0),
    )

    assert is_broken(broken, "I13")
    assert not is_broken(replace(broken, dead_letters={Stream.TARGET: (letter,)}), "I13")


def test_i14_more_fills_than_planned() -> None:
    more = case.log("fill", 9, cloid=case.CLOID, sz="0.0001")

    assert is_broken(case.with_log(case.sound(), *case.venue_log(), more), "I14")


def test_without_the_venue_what_needs_it_is_not_judged() -> None:
    evidence = replace(case.sound(), venue=None)

    assert {each.name for each in judge(evidence) if each.holds is None} == {"I2", "I3", "I8", "I9", "I11"}
