"""Ids are computed, never drawn: the same thing has the same name everywhere, different things differ."""

from __future__ import annotations

import re

import hypothesis.strategies as st
from hypothesis import given

from tradingbot.domain.ids import client_order_id, cloid, cloid_tag, digest, event_id, is_own, trace_id

words = st.text(alphabet=st.characters(blacklist_characters="\x1f", blacklist_categories=["Cs"]), max_size=20)


@given(words, words, words, words)
def test_an_event_id_is_a_version_5_uuid_of_what_it_names(bot_id, stream, cycle_id, key):
    name = {"bot_id": bot_id, "stream": stream, "cycle_id": cycle_id, "key": key}

    assert event_id(**name) == event_id(**name)
    assert event_id(**name).version == 5
    assert event_id(**{**name, "key": key + "x"}) != event_id(**name)


def test_parts_of_an_event_id_do_not_run_into_one_another():
    parts = {"stream": "s", "cycle_id": "c"}

    assert event_id(bot_id="ab", key="c", **parts) != event_id(bot_id="a", key="bc", **parts)


@given(words, words, st.integers(0, 9))
def test_a_cloid_is_the_venues_form_and_bears_the_bots_tag(bot_id, order_id, attempt):
    text = cloid(bot_id=bot_id, client_order_id=order_id, attempt=attempt)

    assert re.fullmatch(r"0x[0-9a-f]{32}", text)
    assert text[2:10] == cloid_tag(bot_id)
    assert is_own(text, bot_id=bot_id)
    assert is_own(text.upper().replace("0X", "0x"), bot_id=bot_id)


def test_another_attempt_is_another_cloid():
    names = {cloid(bot_id="b", client_order_id=order, attempt=attempt) for order in ("x", "y") for attempt in (0, 1)}

    assert len(names) == 4


def test_an_order_without_a_cloid_or_of_another_bot_is_foreign():
    assert not is_own(None, bot_id="b")
    assert not is_own(cloid(bot_id="a", client_order_id="x", attempt=0), bot_id="b")


def test_the_idempotency_key_has_the_missions_form():
    assert (
        client_order_id(cycle_id="20260218T1600Z", symbol="BTC", slice_idx=1, side="BUY") == "20260218T1600Z:BTC:1:BUY"
    )


def test_all_services_derive_one_nonzero_trace_id_for_a_cycle():
    one = trace_id(bot_id="b", cycle_id="20260218T1600Z")

    assert 0 < one < 2**128
    assert one == trace_id(bot_id="b", cycle_id="20260218T1600Z")
    assert one != trace_id(bot_id="b", cycle_id="20260218T1601Z")


def test_a_digest_is_the_same_for_text_and_its_bytes():
    assert digest("x") == digest(b"x")
    assert len(digest("x")) == 16
