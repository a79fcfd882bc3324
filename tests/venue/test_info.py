"""Reads on the wire: what is retried, what is refused, what each try costs, and how pages are joined."""

import asyncio
import json
from collections import Counter
from decimal import Decimal

import pytest
import stamina

from support.scripted import CLOSE, HANG, http, ok, patience, scripted_venue
from support.servers import free_port
from support.sessions import until
from tradingbot.domain.messages import ReportStatus, Side
from tradingbot.venue import errors as e
from tradingbot.venue.http import open_http
from tradingbot.venue.info import FillsOutOfReach, InfoClient

USER = "0x" + "ab" * 20
META = {
    "universe": [
        {"name": "BTC", "szDecimals": 5, "maxLeverage": 40, "marginTableId": 56},
        {"name": "MATIC", "szDecimals": 1, "maxLeverage": 20, "marginTableId": 20, "isDelisted": True},
        {"name": "ODD", "szDecimals": 0, "maxLeverage": 3, "marginTableId": 3, "onlyIsolated": True},
    ],
    "marginTables": [],
    "collateralToken": 0,
}


@pytest.fixture(autouse=True)
def retries_without_waiting():
    with stamina.set_testing(True, attempts=4, cap=True):
        yield


class Ledger:
    """A budget that only writes down."""

    def __init__(self):
        self.taken = []

    async def take(self, weight, *, reserve=0.0):
        self.taken.append(weight)

    async def left(self):
        return 1200.0


async def ask(call, *answers):
    """The result of a read, the venue that it asked, and what it cost."""
    budget = Ledger()
    async with scripted_venue(*answers) as venue, open_http(venue.http_url, timeout=patience(*answers)) as client:
        result = await call(InfoClient(client, budget))
        return result, venue, budget.taken


def fill(time_ms, tid, *, coin="BTC", **fields):
    base = {
        "coin": coin,
        "px": "100.5",
        "sz": "0.02",
        "side": "B",
        "time": time_ms,
        "startPosition": "-0.01",
        "dir": "Open Long",
        "closedPnl": "0.0",
        "hash": "0x0",
        "oid": 90,
        "crossed": True,
        "fee": "0.000904",
        "tid": tid,
        "feeToken": "USDC",
        "twapId": None,
    }
    return base | fields


BROKEN = [
    http(429, "null"),
    http(500, "null"),
    http(502, "<html>Bad Gateway</html>", content_type="text/html"),
    http(200, "<html>", content_type="text/html"),
    ok(None),
    ok({"universe": [{"name": "BTC"}]}),
    CLOSE,
    HANG,
]


@pytest.mark.parametrize("broken", BROKEN)
async def test_a_read_without_a_usable_answer_is_asked_again(broken):
    specs, venue, taken = await ask(InfoClient.meta, broken, ok(META))

    assert specs["BTC"].asset_id == 0
    assert len(venue.requests) == 2
    assert taken == [20, 20]


@pytest.mark.parametrize(
    ("broken", "kind"),
    [(http(429, "null"), e.RateLimited), (http(502, "<html>"), e.VenueUnavailable), (ok(None), e.VenueUnavailable)],
)
async def test_tries_are_bounded_and_the_last_failure_is_typed(broken, kind):
    async with scripted_venue(broken) as venue, open_http(venue.http_url, timeout=patience(broken)) as client:
        with pytest.raises(kind):
            await InfoClient(client, Ledger()).meta()

        assert len(venue.requests) == 4


async def test_no_connection_is_told_from_no_answer():
    async with open_http(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(e.VenueUnreachable):
            await InfoClient(client, Ledger(), attempts=2).all_mids()


async def test_a_request_that_the_venue_does_not_read_is_not_repeated():
    answer = http(422, "Failed to deserialize the JSON body into the target type", content_type="text/plain")
    async with scripted_venue(answer) as venue, open_http(venue.http_url) as client:
        with pytest.raises(e.BadRequest):
            await InfoClient(client, Ledger()).meta()

        assert len(venue.requests) == 1


async def test_a_proxy_of_the_machine_is_not_asked_for_this_machine(monkeypatch):
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    mids, _, _ = await ask(InfoClient.all_mids, ok({"BTC": "1.0"}))
    assert mids == {"BTC": 1}


async def test_retries_are_counted():
    counted = []
    stamina.instrumentation.set_on_retry_hooks([counted.append])
    try:
        await ask(InfoClient.meta, http(500, "null"), ok(META))
    finally:
        stamina.instrumentation.set_on_retry_hooks(None)

    assert [type(each.caused_by) for each in counted] == [e.VenueUnavailable]


async def test_coins_keep_their_place_as_id_though_others_are_delisted():
    specs, _, _ = await ask(InfoClient.meta, ok(META))

    assert [(spec.asset_id, spec.delisted, spec.only_isolated) for spec in specs.values()] == [
        (0, False, False),
        (1, True, False),
        (2, False, True),
    ]


async def test_mids_of_spot_pairs_and_builder_coins_are_left_out():
    raw = {"BTC": "30135.0", "kPEPE": "0.01", "PURR/USDC": "0.2", "@1": "13.5", "xyz:NVDA": "180.1", "#10": "0.5"}
    mids, _, taken = await ask(InfoClient.all_mids, ok(raw))

    assert mids == {"BTC": Decimal("30135.0"), "kPEPE": Decimal("0.01")}
    assert taken == [2]


async def test_an_account_is_read_as_the_venue_shows_it():
    raw = {
        "marginSummary": {
            "accountValue": "38252.7",
            "totalNtlPos": "377667.0",
            "totalRawUsd": "-339414.3",
            "totalMarginUsed": "37766.7",
        },
        "crossMarginSummary": {},
        "crossMaintenanceMarginUsed": "4720.8375",
        "withdrawable": "486.0",
        "assetPositions": [
            {
                "type": "oneWay",
                "position": {
                    "coin": "BTC",
                    "szi": "4.5",
                    "leverage": {"type": "cross", "value": 10},
                    "entryPx": "81285.0",
                    "positionValue": "377667.0",
                    "unrealizedPnl": "11884.6",
                    "returnOnEquity": "0.3249",
                    "liquidationPx": None,
                    "marginUsed": "37766.7",
                    "maxLeverage": 40,
                    "cumFunding": {"allTime": "0", "sinceOpen": "0", "sinceChange": "0"},
                },
            }
        ],
        "time": 1700000000000,
    }
    account, _, taken = await ask(lambda info: info.clearinghouse_state(USER), ok(raw))
    held = account.positions["BTC"]

    assert account.equity == Decimal("38252.7")
    assert account.equity == account.total_raw_usd + held.size * held.mark_px
    assert held.mark_px == Decimal(83926)
    assert (held.leverage, held.is_cross, held.liquidation_px) == (10, True, None)
    assert taken == [2]


ROW = {
    "coin": "ETH",
    "side": "A",
    "limitPx": "2412.7",
    "sz": "0.4",
    "oid": 2**33,
    "timestamp": 1700000000000,
    "origSz": "1.0",
    "triggerCondition": "N/A",
    "isTrigger": False,
    "triggerPx": "0.0",
    "children": [],
    "isPositionTpsl": False,
    "reduceOnly": True,
    "orderType": "Limit",
    "tif": "Gtc",
    "cloid": "0xABCDEF00000000000000000000000001",
}


async def test_open_orders_are_read_with_their_flags_and_only_those_of_perpetuals():
    raw = [ROW, ROW | {"coin": "@142"}, {k: v for k, v in ROW.items() if k not in {"origSz", "cloid", "tif"}}]
    orders, venue, _ = await ask(lambda info: info.open_orders(USER), ok(raw))

    assert venue.requests[0]["type"] == "frontendOpenOrders"
    assert len(orders) == 2
    first, old = orders
    assert (first.side, first.size, first.orig_size, first.reduce_only) == (Side.SELL, Decimal("0.4"), Decimal(1), True)
    assert first.cloid == "0xabcdef00000000000000000000000001"
    assert (old.orig_size, old.cloid, old.tif) == (Decimal("0.4"), None, None)


@pytest.mark.parametrize(
    ("status", "size", "ours", "terminal"),
    [
        ("open", "1.0", ReportStatus.ACK, False),
        ("open", "0.4", ReportStatus.PARTIAL, False),
        ("filled", "0.0", ReportStatus.FILLED, True),
        ("filled", "0.4", ReportStatus.FILLED, True),
        ("canceled", "0.4", ReportStatus.CANCELED, True),
        ("iocCancelRejected", "1.0", ReportStatus.REJECTED, True),
    ],
)
async def test_an_orders_status_is_read_by_oid_or_cloid(status, size, ours, terminal):
    raw = {"status": "order", "order": {"order": ROW | {"sz": size}, "status": status, "statusTimestamp": 5}}
    found, venue, taken = await ask(lambda info: info.order_status(USER, "0xabc"), ok(raw))

    assert (found.report_status, found.terminal, found.status_ms) == (ours, terminal, 5)
    assert found.order.filled_at_most == 1 - Decimal(size)
    assert venue.requests[0]["oid"] == "0xabc"
    assert taken == [2]


async def test_an_unknown_order_is_none_and_not_an_error():
    found, _, _ = await ask(lambda info: info.order_status(USER, 7), ok({"status": "unknownOid"}))

    assert found is None


async def test_of_an_orders_history_the_newest_state_counts():
    rows = [
        {"order": ROW, "status": "canceled", "statusTimestamp": 9},
        {"order": ROW, "status": "open", "statusTimestamp": 3},
    ]
    found, _, _ = await ask(lambda info: info.historical_orders(USER), ok(rows))

    assert [each.status for each in found] == ["canceled"]


async def test_a_fill_is_read_with_its_signs():
    raw = [fill(5, 1, side="A", fee="-0.001", liquidation={"markPx": "1", "method": "market"}), fill(5, 2, coin="@142")]
    fills, venue, _ = await ask(lambda info: info.fills_since(USER, 0), ok(raw))

    (only,) = fills
    assert only.signed_size == Decimal("-0.02")
    assert (only.fee, only.start_position, only.liquidation) == (Decimal("-0.001"), Decimal("-0.01"), True)
    assert venue.requests[0] == {"type": "userFillsByTime", "user": USER, "startTime": 0, "aggregateByTime": False}


class History:
    """The venue's answer to userFillsByTime: oldest first, both bounds inclusive, cut at a limit."""

    def __init__(self, rows, limit):
        self.rows = rows
        self.limit = limit

    def __call__(self, request):
        inside = [row for row in self.rows if request["startTime"] <= row["time"] <= request.get("endTime", 10**15)]
        return ok(inside[: self.limit])


def keys(fills):
    return Counter(each.key for each in fills)


@pytest.mark.parametrize("limit", [500, 2000])
@pytest.mark.parametrize("count", [0, 1, 499, 500, 501, 2000, 2001, 4321])
async def test_fills_are_read_past_the_venues_page_each_exactly_once(limit, count):
    # Three fills share each millisecond, so that every page ends inside one.
    rows = [fill(1000 + i // 3, i) for i in range(count)]
    fills, _, _ = await ask(lambda info: info.fills_since(USER, 1000), History(rows, limit))

    assert keys(fills) == Counter((row["time"], "BTC", row["tid"]) for row in rows)
    assert [each.time_ms for each in fills] == sorted(each.time_ms for each in fills)


async def test_both_sides_of_a_trade_and_other_coins_are_told_apart_by_time_coin_and_tid():
    rows = [fill(1, 7), fill(1, 7, coin="ETH"), fill(2, 7), fill(2, 7)]
    fills, _, _ = await ask(lambda info: info.fills_since(USER, 0), ok(rows))

    assert len(fills) == 3


async def test_pages_full_of_spot_fills_do_not_end_the_paging():
    rows = [fill(1000 + i, i, coin="@142") for i in range(1200)] + [fill(9000, 1)]
    fills, _, _ = await ask(lambda info: info.fills_since(USER, 0), History(rows, 500))

    assert [each.time_ms for each in fills] == [9000]


async def test_the_end_is_inclusive():
    rows = [fill(at, at) for at in range(10)]
    fills, _, _ = await ask(lambda info: info.fills_since(USER, 3, 5), History(rows, 500))

    assert [each.time_ms for each in fills] == [3, 4, 5]


@pytest.mark.parametrize("limit", [500, 2000])
async def test_a_millisecond_with_more_fills_than_a_page_is_an_error_and_not_a_loop(limit):
    rows = [fill(1000, i) for i in range(limit + 1)] + [fill(1001, 1)]
    with pytest.raises(FillsOutOfReach, match="1000"):
        await ask(lambda info: info.fills_since(USER, 1000), History(rows, limit))


async def test_a_crowded_millisecond_that_fits_into_a_page_is_no_error():
    rows = [fill(1000, i) for i in range(700)] + [fill(1001, 1)]
    fills, _, _ = await ask(lambda info: info.fills_since(USER, 1000), History(rows, 2000))

    assert len(fills) == 701


async def test_a_long_answer_is_paid_for_by_its_items():
    rows = [fill(1000 + i, i) for i in range(450)]
    _, _, taken = await ask(lambda info: info.fills_since(USER, 0), History(rows, 500))

    assert taken == [20, 20, 3]


async def test_candles_are_read_with_their_span():
    raw = [
        {"t": 60000, "T": 119999, "s": "BTC", "i": "1m", "o": "1", "h": "3", "l": "0.5", "c": "2", "v": "10.5", "n": 7}
    ]
    candles, venue, _ = await ask(lambda info: info.candles("BTC", "1m", 60000, 120000), ok(raw))

    assert (candles[0].open_ms, candles[0].high, candles[0].volume, candles[0].trades) == (60000, 3, Decimal("10.5"), 7)
    assert venue.requests[0]["req"] == {"coin": "BTC", "interval": "1m", "startTime": 60000, "endTime": 120000}


async def test_a_book_is_read_best_levels_first():
    raw = {
        "coin": "BTC",
        "time": 5,
        "levels": [[{"px": "99.0", "sz": "1", "n": 2}], [{"px": "101.0", "sz": "3", "n": 1}]],
    }
    book, _, _ = await ask(lambda info: info.l2_book("BTC"), ok(raw))

    assert (book.bids[0].px, book.asks[0].size) == (99, 3)


async def test_a_coin_that_the_venue_does_not_have_is_a_refusal_and_not_a_retry():
    async with scripted_venue(ok(None)) as venue, open_http(venue.http_url) as client:
        with pytest.raises(e.UnknownCoin):
            await InfoClient(client, Ledger()).l2_book("NOPE")

        assert len(venue.requests) == 1


@pytest.mark.parametrize(
    ("raw", "role", "master"),
    [
        ({"role": "missing"}, "missing", None),
        ({"role": "user"}, "user", None),
        ({"role": "agent", "data": {"user": "0xABC"}}, "agent", "0xabc"),
        ({"role": "subAccount", "data": {"master": "0xABC"}}, "subAccount", "0xabc"),
    ],
)
async def test_a_role_names_its_master(raw, role, master):
    found, _, taken = await ask(lambda info: info.user_role(USER), ok(raw))

    assert (found.role, found.master) == (role, master)
    assert taken == [60]


async def test_agents_budget_fees_and_mode_are_read():
    agents, _, _ = await ask(
        lambda info: info.extra_agents(USER), ok([{"name": "bot", "address": "0xAB", "validUntil": 5}])
    )
    limit, _, _ = await ask(
        lambda info: info.user_rate_limit(USER), ok({"cumVlm": "12.5", "nRequestsUsed": 7, "nRequestsCap": 10012})
    )
    fees, _, _ = await ask(
        lambda info: info.user_fees(USER), ok({"userCrossRate": "0.00045", "userAddRate": "0.00015"})
    )
    mode, _, _ = await ask(lambda info: info.user_abstraction(USER), ok("default"))
    status, _, _ = await ask(InfoClient.server_time, ok({"time": 5, "specialStatuses": None}))

    assert (agents[0].address, agents[0].valid_until_ms) == ("0xab", 5)
    assert limit.left == 10005
    assert (fees.taker, fees.maker) == (Decimal("0.00045"), Decimal("0.00015"))
    assert (mode, status) == ("default", 5)


async def test_leverage_is_read_back_per_coin():
    raw = {
        "leverage": {"type": "isolated", "value": 3, "rawUsd": "0.0"},
        "maxTradeSzs": ["1", "1"],
        "availableToTrade": ["10.5", "9"],
        "markPx": "100.0",
    }
    found, _, _ = await ask(lambda info: info.active_asset_data(USER, "BTC"), ok(raw))

    assert (found.leverage, found.is_cross, found.available_to_trade) == (3, False, (Decimal("10.5"), Decimal(9)))


def sent(user: str, destination: str, source_dex: str, destination_dex: str, *, fee: str = "0.0") -> dict[str, str]:
    """A send of 7 dollars between two dexes; the perpetuals' own is named by the empty text."""
    ends = {"user": user, "destination": destination, "sourceDex": source_dex, "destinationDex": destination_dex}
    return {"type": "send", "token": "USDC", "amount": "7.0", "usdcValue": "7.0", "fee": fee, **ends}


@pytest.mark.parametrize(
    ("delta", "usd"),
    [
        ({"type": "deposit", "usdc": "100.0"}, "100"),
        ({"type": "withdraw", "usdc": "50.0", "nonce": 1, "fee": "1.0"}, "-51"),
        ({"type": "accountClassTransfer", "usdc": "5", "toPerp": True}, "5"),
        ({"type": "accountClassTransfer", "usdc": "5", "toPerp": False}, "-5"),
        ({"type": "internalTransfer", "usdc": "7", "user": "0x1", "destination": USER, "fee": "1"}, "7"),
        ({"type": "internalTransfer", "usdc": "7", "user": USER, "destination": "0x1", "fee": "1"}, "-8"),
        ({"type": "subAccountTransfer", "usdc": "7", "user": "0x1", "destination": USER}, "7"),
        ({"type": "spotTransfer", "token": "PURR", "amount": "1"}, "0"),
        (sent("0x1", USER, "", ""), "7"),
        (sent(USER, "0x1", "", "", fee="1"), "-8"),
        (sent("0x1", USER, "spot", "spot"), "0"),
        (sent("0x1", USER, "", "spot"), "0"),
        (sent(USER, "0x1", "spot", ""), "0"),
        (sent(USER, USER, "", "spot"), "-7"),
        (sent(USER, USER, "spot", ""), "7"),
        (sent(USER, USER, "xyz", "spot"), "0"),
    ],
)
async def test_money_that_came_is_positive_and_money_that_went_negative(delta, usd):
    raw = [{"time": 5, "hash": "0x0", "delta": delta}]
    (update,), _, _ = await ask(lambda info: info.ledger_updates(USER, 0), ok(raw))

    assert update.usd == Decimal(usd)


async def test_funding_keeps_the_venues_sign():
    delta = {"type": "funding", "coin": "ETH", "usdc": "-3.6", "szi": "49.1", "fundingRate": "0.0000417"}
    raw = [
        {"time": 9, "hash": "0x0", "delta": delta},
        {"time": 8, "hash": "0x0", "delta": delta | {"coin": "xyz:GOLD"}},
    ]
    (payment,), _, _ = await ask(lambda info: info.funding_payments(USER, 0), ok(raw))

    assert (payment.usd, payment.symbol, payment.time_ms) == (Decimal("-3.6"), "ETH", 9)


async def test_market_figures_may_be_missing_for_a_coin_without_a_book():
    figures = {
        "funding": "0.0000125",
        "openInterest": "10",
        "prevDayPx": "1",
        "dayNtlVlm": "5",
        "premium": None,
        "oraclePx": "1",
        "markPx": "1",
        "midPx": None,
        "impactPxs": None,
    }
    found, _, _ = await ask(
        InfoClient.asset_contexts, ok([META, [figures | {"impactPxs": ["1", "2"]}, figures, figures]])
    )

    assert (found["BTC"].impact_ask, found["MATIC"].mid_px, found["MATIC"].impact_bid) == (2, None, None)


async def test_requests_are_posted_as_json():
    _, venue, _ = await ask(InfoClient.all_mids, ok({}))

    assert venue.paths == ["/info"]
    assert json.loads(venue.bodies[0]) == {"type": "allMids"}


async def test_requests_that_are_cancelled_again_and_again_give_their_connections_back():
    async with scripted_venue(HANG) as venue, open_http(venue.http_url) as client:
        for count in range(1, 31):  # more than the pool holds
            asking = asyncio.create_task(InfoClient(client, Ledger(), attempts=1).all_mids())
            await until(lambda count=count: len(venue.requests) == count)
            while not asking.done():
                asking.cancel()
                await asyncio.sleep(0)
