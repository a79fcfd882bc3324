"""What a run will be, decided before anything is started."""

from __future__ import annotations

from pathlib import Path

import pytest

from tradingbot.domain.static import Network, PriceLabel
from tradingbot.local.plan import PlanError, check_recording_end, choose_anchor, choose_prices
from tradingbot.runtime.clock import Anchor

MINUTE = 60_000
NOW = 1_771_430_425_000


def prices(asked: str = "auto", *, live: bool = False, speed: float = 1.0, network: Network = Network.PAPER):
    return choose_prices(asked=asked, network=network, live_answers=live, speed=speed)


def anchor(label: PriceLabel, *, resume_ms: int | None = None, span=None, speed: float = 1.0) -> Anchor:
    return choose_anchor(label=label, speed=speed, cycle_seconds=60, now_ms=NOW, resume_ms=resume_ms, span=span)


def test_auto_takes_live_prices_where_they_answer() -> None:
    assert prices(live=True).label is PriceLabel.LIVE


def test_auto_is_synthetic_otherwise_and_says_so_plainly() -> None:
    chosen = prices(live=False)

    assert chosen.label is PriceLabel.SYNTHETIC
    assert "SYNTHETIC" in chosen.why


def test_live_prices_that_do_not_answer_are_waited_for_and_said() -> None:
    assert prices("live", live=True).why == ""
    assert "nothing is traded until" in prices("live", live=False).why


def test_a_faster_clock_is_never_given_live_prices() -> None:
    assert prices(live=True, speed=30).label is PriceLabel.SYNTHETIC
    with pytest.raises(PlanError, match="--speed 30 cannot run on live prices"):
        prices("live", speed=30)


def test_a_path_is_a_recording_and_one_that_is_not_there_is_refused(tmp_path: Path) -> None:
    assert prices(str(tmp_path)).label is PriceLabel.RECORDED
    with pytest.raises(PlanError, match="no such file"):
        prices(str(tmp_path / "none"))


def test_synthetic_prices_always_name_their_seed() -> None:
    assert prices("synthetic").spec == "synthetic:1"
    assert prices("synthetic:7").spec == "synthetic:7"


@pytest.mark.parametrize(("asked", "speed"), [("synthetic", 1.0), ("auto", 2.0)])
def test_a_real_venue_has_its_own_prices_and_its_own_time(asked: str, speed: float) -> None:
    with pytest.raises(PlanError):
        prices(asked, speed=speed, network=Network.MAINNET)


@pytest.mark.parametrize("speed", [0.0, -1.0])
def test_time_does_not_stand_still_or_run_back(speed: float) -> None:
    with pytest.raises(PlanError, match="greater than 0"):
        prices(speed=speed)


def test_live_time_is_real_time_also_after_a_stop() -> None:
    assert anchor(PriceLabel.LIVE) == Anchor.real()
    assert anchor(PriceLabel.LIVE, resume_ms=5) == Anchor.real()


def test_a_recording_starts_one_hour_after_its_first_shared_minute() -> None:
    start = NOW - NOW % MINUTE

    assert anchor(PriceLabel.RECORDED, span=(start, start + 1000 * MINUTE)).virtual_start_ms == start + 60 * MINUTE


def test_a_second_start_goes_on_where_time_stopped() -> None:
    span = (0, NOW * 2)

    assert anchor(PriceLabel.RECORDED, span=span, resume_ms=NOW + 1).virtual_start_ms == NOW + 1
    assert anchor(PriceLabel.SYNTHETIC, resume_ms=NOW - 1).virtual_start_ms == NOW - 1


def test_the_first_synthetic_cycle_comes_within_seconds_but_not_before_a_first_start_may_plan() -> None:
    start_ms = anchor(PriceLabel.SYNTHETIC).virtual_start_ms

    assert 12_000 <= -start_ms % MINUTE <= 15_000


def test_a_recording_that_was_played_to_its_end_is_refused() -> None:
    with pytest.raises(PlanError, match="played to its end"):
        anchor(PriceLabel.RECORDED, span=(0, 100 * MINUTE), resume_ms=100 * MINUTE)
    with pytest.raises(PlanError, match="too short"):
        anchor(PriceLabel.RECORDED, span=(0, 50 * MINUTE))


def test_more_cycles_than_a_recording_holds_are_refused() -> None:
    at = Anchor.at(virtual_start_ms=0, speed=1)

    check_recording_end(span=(0, 12 * MINUTE), anchor=at, cycles=10, cycle_seconds=60)
    with pytest.raises(PlanError, match="holds 10"):
        check_recording_end(span=(0, 12 * MINUTE), anchor=at, cycles=11, cycle_seconds=60)
