"""The audit log for a person: a line a record, in words, with the figures that matter."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tradingbot.bus.names import Stream
from tradingbot.domain.audit_words import _TELL, VALUE_MAX, audit_line
from tradingbot.domain.envelope import Message, message
from tradingbot.domain.messages import AuditLevel, AuditRecord


def told(kind: str, level: AuditLevel = AuditLevel.INFO, **details: Any) -> str:
    wrapped = message(
        AuditRecord(kind=kind, level=level, details=details),
        bot_id="bot",
        stream=Stream.AUDIT,
        source="execution",
        cycle_id="20260218T1600Z",
        key="1",
        now_ms=1_771_430_401_000,
    )
    return audit_line(Message[AuditRecord].read(wrapped.model_dump_json()))


def words(kind: str, **details: Any) -> str:
    return told(kind, **details)[67:]


TARGET = {"strategy": "llm", "used": "llm", "confidence": 0.625, "steps": {"turnover": {"BTC": 0.0151, "ETH": 0.0}}}
APPROVED = {
    "mode": "REDUCE_ONLY",
    "mode_source": "breaker",
    "mode_reason": "drawdown 2.1 %",
    "clamps": [{"symbol": "BTC", "reason": "cap", "requested": 0.2, "approved": 0.15}],
    "approved": {"BTC": 0.15},
    "gross": 0.15,
    "net": 0.15,
    "turnover": 0.02,
    "flags": [],
}
REPORTS = {
    "cycle_id": "c",
    "orders": 2,
    "outcomes": {"FILLED": 2},
    "fills": 3,
    "filled_usd": "1020.5",
    "fees_usd": "0.0061",
}
FEATURES = {
    "coins": 4,
    "produced_after_ms": 1120,
    "missing": ["ADA"],
    "without": {"ret_1h": ["SOL"]},
    "no_book": [],
}


@pytest.mark.parametrize(
    ("kind", "details", "says"),
    [
        ("alpha.target", TARGET, "BTC +1.5% by llm, confidence 0.62"),
        (
            "alpha.target",
            TARGET | {"used": "baseline_fallback", "error": "http: 429", "held": ["SOL"]},
            "BTC +1.5% by baseline_fallback in place of llm, confidence 0.62; because http: 429; held SOL",
        ),
        ("alpha.target", {"used": "none", "skipped": "no state snapshot"}, "no target: no state snapshot"),
        (
            "risk.approved",
            APPROVED,
            "REDUCE_ONLY by breaker: drawdown 2.1 %; BTC +15.0%; gross 15.0% net 15.0% turnover 2.0%; clamped BTC cap",
        ),
        ("exec.plan", {"slices": 0, "orders": 0, "why": "HALT"}, "nothing planned: HALT"),
        (
            "exec.plan",
            {"slices": 3, "orders": 1, "skipped": {"ETH": "unsettled"}},
            "1 order in 3 slices; left out ETH unsettled",
        ),
        ("exec.reports", REPORTS, "2 orders, 3 fills; filled 1,020.50 USD, fees 0.0061 USD; outcomes FILLED 2"),
        ("md.features.1m", FEATURES, "4 coins, 1,120 ms after the minute; missing ADA; without ret_1h SOL"),
        (
            "mode",
            {"before": "NORMAL", "after": "HALT", "source": "person", "reason": "odd"},
            "NORMAL -> HALT by person; odd",
        ),
        (
            "breaker",
            {
                "was": "NORMAL",
                "mode": "HALT",
                "causes": {"drawdown": "3.2 % below"},
                "latches": ["drawdown-1"],
                "equity_usd": "9680",
                "drawdown": 0.032,
            },
            "NORMAL -> HALT; because drawdown 3.2 % below; latched drawdown-1; drawdown 3.2%; equity 9,680.00 USD",
        ),
        (
            "llm.circuit",
            {"state": "open", "open": True, "failures": 5, "wait_s": 300.0, "error": "http: 500 boom"},
            "the language model is left alone for 300 s after 5 failed decisions in a row; last http: 500 boom",
        ),
        ("llm.circuit", {"state": "closed"}, "the language model is no longer left alone"),
        ("rate_limited", {"bucket": "orders", "wanted": 2, "of": None}, "bucket orders; wanted 2"),
    ],
)
def test_a_record_is_told_in_words(kind: str, details: dict[str, Any], says: str) -> None:
    assert words(kind, **details) == says


def test_the_line_says_when_who_and_how_grave_first() -> None:
    line = told("rate_limited", AuditLevel.WARNING, bucket="orders")

    assert line == "16:00:01 20260218T1600Z execution       warning rate_limited       bucket orders"


def test_a_long_value_is_cut() -> None:
    assert len(words("alpha.target", **TARGET, error="x" * 5000)) < VALUE_MAX + 100


def test_a_figure_beyond_all_measure_is_told_as_it_stands() -> None:
    assert words("exec.reports", **{**REPORTS, "filled_usd": 10**400}).startswith("cycle id c; ")


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from([*TARGET, *APPROVED, *REPORTS, *FEATURES, "skipped", "why", "causes", "latches", "drawdown"])


@given(kind=st.sampled_from([*_TELL, "other"]), details=st.dictionaries(NAMES, JSON, max_size=12))
def test_whatever_a_record_holds_it_is_one_line_that_a_terminal_only_prints(kind: str, details: dict[str, Any]) -> None:
    line = told(kind, **details)

    assert line.isprintable()
