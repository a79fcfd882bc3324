"""What a backtest does not show, in the words of the run at hand: it stands on every report."""

from __future__ import annotations

from collections.abc import Iterator

from tradingbot.replay.backtest.study import Findings

LONG_DAYS = 365


def limits_of(findings: Findings) -> Iterator[str]:
    """One sentence or two each, the weightiest first."""
    report, performance = findings.report, findings.report.performance
    if report.days < LONG_DAYS:
        yield _short(report.days, performance.sharpe, performance.sharpe_error)
    if findings.search is not None:
        yield (
            f"These parameters are the best of {len(findings.search.trials)} tries on the very data that they are "
            "shown on. Expect less of them elsewhere."
        )
    if report.first_restricted_at is not None:
        held = 1 - report.modes["NORMAL"]
        yield (
            f"From {report.first_restricted_at} on, the breaker held the bot back for {held:.0%} of the decisions, "
            "as it does live until a person clears it. The ratios include that idle time."
        )
    options = report.options
    yield (
        "Fills are modelled: each slice trades at the price on its candle's path, worse by half a spread of "
        f"{options['half_spread_bps']} bps and {options['impact_bps']} bps · √(order / the minute's volume). "
        "No order rests, none is missed in a queue, and nobody reacts to us."
    )
    yield (
        f"Funding is taken as {funding_words(options['funding'])} of a position's value and fees as "
        f"{options['taker_fee_bps']} bps of what is traded; the venue's own change."
    )
    yield (
        "Left out: the breaker's health class (stale prices, failed reconciliation), the venue's rate limits and "
        "outages, liquidation, and what order books add to live features and slices."
    )
    yield from report.data.left_out
    if total := sum(report.data.missing.values()):
        yield f"{total:,} bars are missing; a coin without prices is held, and nothing is invented for it."
    if findings.lookahead is None:
        yield "The look-ahead check was not run (--check-lookahead)."
    elif findings.lookahead.clean:
        yield (
            f"The look-ahead check found nothing at {findings.lookahead.moments} moments; it cannot find what a person "
            "knew about these months when the strategy was written."
        )
    else:
        yield f"LOOK-AHEAD: {findings.lookahead.leaks[0]}. Nothing on this page counts."
    yield "Coins that are traded today are those that survived. What happened once need not happen again."


def funding_words(rate: object) -> str:
    """What a long pays."""
    return f"{rate * 10_000:g} bps an hour" if isinstance(rate, float) else str(rate)


def _short(days: float, sharpe: float | None, error: float | None) -> str:
    text = f"{days:.1f} days are little: "
    if sharpe is None or error is None:
        return f"{text}no ratio can be told from them."
    low, high = sharpe - 1.96 * error, sharpe + 1.96 * error
    return (
        f"{text}the Sharpe ratio of {sharpe:.2f} has a 95 % interval of {low:.1f} to {high:.1f}; "
        "to know one to ± 0.5 takes about 16 years."
    ).replace("-", "−")
