"""What a run will be: which venue, which prices, where virtual time starts. Decided before anything is started."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tradingbot.domain.cycles import MINUTE_MS, from_ms
from tradingbot.domain.errors import Permanent
from tradingbot.domain.static import Network, PriceLabel, StaticSettings
from tradingbot.local.folder import ClockNote
from tradingbot.runtime.clock import Anchor

DEFAULT_SEED = 1
HISTORY_MS = 60 * MINUTE_MS
"""Features look back one hour: a recording starts that long after its first minute."""
_BOOT_REAL_S = 14
"""A synthetic run begins so long before a cycle: on a small machine the six services are up within half of it, and
execution, which knows of no earlier life, lets 7 s go by in which an order of one could still arrive."""


class PlanError(Permanent):
    """A run that cannot be: the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpOptions:
    """The options of ``tradingbot up``."""

    prices: str = "auto"
    speed: float = 1.0
    cycles: int | None = None
    dry_run: bool = False
    data_dir: Path | None = None
    report: Path | None = None
    record: Path | None = None
    print_json: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """Where prices come from."""

    spec: str
    label: PriceLabel
    why: str = ""
    """For a person, when it was not asked for by name."""

    @property
    def folder_name(self) -> str:
        """The default data folder's name."""
        if self.label is PriceLabel.RECORDED:
            return f"recorded-{Path(self.spec).stem}"
        return self.spec.replace(":", "-")


def choose_prices(*, asked: str, network: Network, live_answers: bool, speed: float) -> Prices:
    """Turn ``--prices`` into a source.

    Raises:
        PlanError: it does not go with the network or the speed.
    """
    if speed <= 0:
        raise PlanError(f"--speed must be greater than 0, was {speed:g}")
    if network is not Network.PAPER:
        return _live_on_a_real_venue(asked=asked, network=network, speed=speed)
    if asked == "live" and speed != 1:
        raise PlanError(
            f"--speed {speed:g} cannot run on live prices; use --speed 1, or --prices synthetic or a recording"
        )
    if asked == "live":
        why = "" if live_answers else "the live venue's public data cannot be reached: nothing is traded until it can"
        return Prices(spec="live", label=PriceLabel.LIVE, why=why)
    if asked == "auto" and live_answers and speed == 1:
        return Prices(spec="live", label=PriceLabel.LIVE, why="prices are the live venue's public data")
    if asked == "auto":
        reason = "--speed needs a clock of its own" if speed != 1 else "the live venue's public data cannot be reached"
        why = f"prices are SYNTHETIC, made up by a seeded generator: {reason}"
        return Prices(spec=f"synthetic:{DEFAULT_SEED}", label=PriceLabel.SYNTHETIC, why=why)
    if asked.partition(":")[0] == "synthetic":
        spec = asked if ":" in asked else f"synthetic:{DEFAULT_SEED}"
        return Prices(spec=spec, label=PriceLabel.SYNTHETIC, why="prices are SYNTHETIC, made up by a seeded generator")
    path = Path(asked).resolve()
    if not path.exists():
        raise PlanError(f"--prices {asked}: no such file or folder; or say auto, live, synthetic or synthetic:SEED")
    return Prices(spec=str(path), label=PriceLabel.RECORDED, why=f"prices are RECORDED, from {path}")


def _live_on_a_real_venue(*, asked: str, network: Network, speed: float) -> Prices:
    if asked not in {"auto", "live"}:
        raise PlanError(
            f"--prices {asked}: HL_NETWORK={network} has its own prices; only the paper exchange takes others"
        )
    if speed != 1:
        raise PlanError(f"--speed {speed:g}: HL_NETWORK={network} runs in real time")
    return Prices(spec="live", label=PriceLabel.LIVE)


def choose_anchor(
    *,
    label: PriceLabel,
    speed: float,
    cycle_seconds: int,
    now_ms: int,
    resume_ms: int | None,
    span: tuple[int, int] | None,
) -> Anchor:
    """Where virtual time starts: at the real time when live, else where it stopped, else at the source's beginning.

    Raises:
        PlanError: the recording is too short, or has been played to its end.
    """
    if label is PriceLabel.LIVE:
        return Anchor.real()
    start_ms = resume_ms
    if start_ms is None and span is not None:
        start_ms = span[0] + HISTORY_MS
    if start_ms is None:
        # A cycle starts soon after the services are up, wherever in a minute the command was given.
        cycle_ms = cycle_seconds * 1000
        boot_ms = min(int(_BOOT_REAL_S * 1000 * speed), cycle_ms)
        start_ms = now_ms - now_ms % cycle_ms + cycle_ms - boot_ms
    if span is not None and start_ms >= span[1] - cycle_seconds * 1000:
        raise PlanError(
            f"the recording ends at {from_ms(span[1]):%Y-%m-%d %H:%M} UTC and "
            f"{'has been played to its end; a new --data-dir plays it again' if resume_ms else 'is too short'}"
        )
    return Anchor.at(virtual_start_ms=start_ms, speed=speed)


def check_recording_end(
    *, span: tuple[int, int] | None, anchor: Anchor, cycles: int | None, cycle_seconds: int
) -> None:
    """Refuse a number of cycles that the rest of a recording cannot hold.

    Raises:
        PlanError: with the number that it can.
    """
    if span is None or cycles is None:
        return
    left = (span[1] - anchor.virtual_start_ms) // (cycle_seconds * 1000) - 2
    if cycles > left:
        raise PlanError(f"--cycles {cycles}: the rest of the recording holds {max(left, 0)}")


def note_of(anchor: Anchor, *, virtual_ms: int) -> ClockNote:
    """What the folder keeps of the clock."""
    return ClockNote(anchor=str(anchor), virtual_ms=virtual_ms, speed=anchor.speed)


def static_settings(given: Mapping[str, str]) -> StaticSettings:
    """The static settings of checked environment values."""
    fields = {field: given[field.upper()] for field in StaticSettings.model_fields if field.upper() in given}
    return StaticSettings.model_validate(fields)
