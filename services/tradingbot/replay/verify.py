"""Do the invariants hold? Every checker, over one body of evidence."""

from __future__ import annotations

from functools import cache

from tradingbot.replay.evidence import Evidence, collect
from tradingbot.replay.invariants import limits, record, seam, secrecy, venue
from tradingbot.replay.verdict import Check, Verdict, verdict


@cache
def _seam() -> tuple[int, tuple[str, ...]]:
    """Modules looked at, and breaches: the code that runs does not change while it runs."""
    folder = seam.package_folder()
    return sum(1 for _ in folder.rglob("*.py")), tuple(seam.breaches(folder))


def no_clock_outside_the_seam(_: Evidence) -> Verdict:
    """I12: no clock, id or randomness outside the seam, in the code that runs."""
    checked, against = _seam()
    return verdict("I12", "no clock, id or randomness outside the seam", checked=checked, against=against)


CHECKS: tuple[Check, ...] = (
    venue.at_most_one_order_per_attempt,
    venue.nothing_after_halt,
    venue.positions_agree,
    record.every_entry_has_an_end,
    record.no_order_without_a_decision,
    limits.limits_hold_at_every_intent,
    record.nothing_pending,
    venue.order_is_kept,
    secrecy.key_exists_in_execution_alone,
    record.state_follows_from_the_log,
    venue.unknown_stays_unknown,
    no_clock_outside_the_seam,
    record.every_message_validates,
    venue.fills_stay_within_the_plan,
)


def judge(evidence: Evidence) -> tuple[Verdict, ...]:
    """A verdict on each invariant, I1 to I14."""
    return tuple(check(evidence) for check in CHECKS)


def all_hold(verdicts: tuple[Verdict, ...]) -> bool:
    """True when none is broken."""
    return all(each.holds is not False for each in verdicts)


__all__ = ["CHECKS", "Evidence", "all_hold", "collect", "judge"]
