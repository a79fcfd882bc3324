"""What each answer to a signed action means, on the wire: scripted bytes, silence and broken connections."""

import asyncio
from decimal import Decimal

import pytest
from pydantic import SecretStr

from support.scripted import CLOSE, HALF, HANG, http, ok, patience, scripted_venue
from support.servers import free_port
from tradingbot.domain.messages import Side
from tradingbot.domain.static import Network
from tradingbot.venue import errors as e
from tradingbot.venue.exchange import ExchangeClient, Failed, Filled, Resting, Success, Waiting
from tradingbot.venue.http import open_http
from tradingbot.venue.signing import Signer
from tradingbot.venue.wire import WireOrder, cancel_action, order_action, update_leverage_action

SIGNER = Signer(SecretStr("0x" + "11" * 32), Network.PAPER)
ORDER = WireOrder(asset_id=0, side=Side.BUY, px=Decimal(100), size=Decimal(1), tif="Gtc")


def orders(count=1):
    return SIGNER.sign(order_action([ORDER] * count), nonce=1, expires_after_ms=None)


def statuses(*entries, kind="order"):
    return ok({"status": "ok", "response": {"type": kind, "data": {"statuses": list(entries)}}})


def refused(text):
    return ok({"status": "err", "response": text})


async def send(answer, request=None, *, resend=False):
    async with scripted_venue(answer) as venue, open_http(venue.http_url, timeout=patience(answer)) as client:
        return await ExchangeClient(client).send(request or orders(), resend=resend)


async def test_each_entry_of_a_batch_has_its_own_answer():
    cloid = "0x00000000000000000000000000000001"
    result = await send(
        statuses(
            {"resting": {"oid": 77738308, "cloid": cloid}},
            {"filled": {"totalSz": "0.02", "avgPx": "1891.4", "oid": 77747314}},
            {"error": "Order must have minimum value of $10. asset=0"},
            "waitingForFill",
        ),
        orders(4),
    )

    resting, filled, failed, waiting = result.statuses
    assert resting == Resting(oid=77738308, cloid=cloid)
    assert filled == Filled(oid=77747314, total_size=Decimal("0.02"), avg_px=Decimal("1891.4"))
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, e.MinNotional)
    assert waiting == Waiting("waitingForFill")
    assert result.errors == (failed.error,)


async def test_cancels_succeed_and_fail_one_by_one():
    request = SIGNER.sign(cancel_action([(0, 1), (0, 2)]), nonce=1, expires_after_ms=None)
    gone = {"error": "Order was never placed, already canceled, or filled. asset=0"}
    result = await send(statuses("success", gone, kind="cancel"), request)

    assert result.statuses[0] == Success()
    assert isinstance(result.errors[0], e.OrderGone)


async def test_a_setting_is_answered_by_a_bare_default():
    request = SIGNER.sign(update_leverage_action(0, is_cross=True, leverage=3), nonce=1, expires_after_ms=None)

    assert (await send(ok({"status": "ok", "response": {"type": "default"}}), request)).statuses == (Success(),)


async def test_one_refusal_before_admission_stands_for_the_whole_batch():
    result = await send(statuses({"error": "Order has zero size."}), orders(3))

    assert [type(error) for error in result.errors] == [e.BadSize] * 3


async def test_the_same_refusal_in_an_error_envelope_means_the_same():
    result = await send(refused("Order has zero size."), orders(3))

    assert [type(error) for error in result.errors] == [e.BadSize] * 3


async def test_the_post_only_period_is_told_per_entry_in_either_envelope():
    text = "Only post-only orders allowed immediately after a network upgrade"

    for answer in (statuses({"error": text}), refused(text)):
        result = await send(answer, orders(2))
        assert [type(error) for error in result.errors] == [e.PostOnlyPeriod] * 2


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("User or API Wallet 0x14dc79964da2c08b23698b3d3cc7ca32193d9955 does not exist.", e.UnknownSigner),
        ("Action already expired", e.Expired),
        ("Invalid nonce: nonce too low 1 < 2", e.BadNonce),
        ("Invalid nonce: duplicate nonce 1", e.AlreadyAdmitted),
        ("Too many cumulative requests sent (2 > 1) for cumulative volume traded $0.", e.AddressBudgetExhausted),
        ("Signed action over weight limit of 200.", e.BatchTooLarge),
        ("A sentence from next year.", e.Unrecognized),
    ],
)
async def test_the_refusal_of_a_whole_action_is_its_typed_error(text, kind):
    with pytest.raises(kind) as refusal:
        await send(refused(text))

    assert type(refusal.value) is kind


@pytest.mark.parametrize(
    "answer",
    [
        HANG,
        CLOSE,
        HALF,
        http(500, "null"),
        http(502, "<html><h1>502 Bad Gateway</h1></html>", content_type="text/html"),
        http(503, "Service Unavailable", content_type="text/plain"),
        http(504, "<html>", content_type="text/html"),
        http(408, "", content_type="text/plain"),
        http(200, "<html>", content_type="text/html"),
        ok(None),
        ok([]),
        ok({"status": "ok"}),
        ok({"status": "ok", "response": {"type": "order", "data": {"statuses": ["dancing"]}}}),
        ok({"status": "ok", "response": {"type": "order", "data": {"statuses": [{"resting": {}}]}}}),
        ok({"status": "ok", "response": {"type": "order", "data": {"statuses": []}}}),
        ok({"status": "ok", "response": {"type": "order", "data": {"statuses": ["success", "success"]}}}),
        ok(
            {
                "status": "ok",
                "response": {
                    "type": "order",
                    "data": {"statuses": [{"filled": {"oid": 1, "totalSz": "x", "avgPx": "1"}}]},
                },
            }
        ),
    ],
)
async def test_without_a_usable_answer_the_outcome_is_unknown(answer):
    with pytest.raises(e.OutcomeUnknown):
        await send(answer)


async def test_nothing_left_us_when_no_connection_was_made():
    async with open_http(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(e.VenueUnreachable):
            await ExchangeClient(client).send(orders())


async def test_a_rate_limit_admits_nothing():
    with pytest.raises(e.RateLimited) as limited:
        await send(http(429, "null"))

    assert limited.value.delay_s is not None


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (422, "Failed to deserialize the JSON body into the target type"),
        (400, "Failed to parse the request body as JSON"),
        (415, "Expected request with `Content-Type: application/json`"),
        (404, "not here"),
        (301, "moved"),
    ],
)
async def test_a_request_that_the_venue_does_not_read_is_refused(status, text):
    with pytest.raises(e.BadRequest, match=str(status) if status in (404, 301) else text[:10]):
        await send(http(status, text, content_type="text/plain"))


@pytest.mark.parametrize(
    "answer", [HANG, CLOSE, http(500, "null"), http(429, "null"), refused("Action already expired")]
)
async def test_an_action_is_never_sent_twice_by_itself(answer):
    async with scripted_venue(answer) as venue, open_http(venue.http_url, timeout=patience(answer)) as client:
        with pytest.raises(e.VenueError):
            await ExchangeClient(client).send(orders())

        assert len(venue.requests) == 1
        assert venue.paths == ["/exchange"]


async def test_sending_again_is_the_very_same_bytes():
    request = orders()
    accepted = statuses({"resting": {"oid": 1}})
    async with scripted_venue(CLOSE, accepted) as venue, open_http(venue.http_url) as client:
        with pytest.raises(e.OutcomeUnknown):
            await ExchangeClient(client).send(request)
        result = await ExchangeClient(client).send(request, resend=True)

        assert venue.bodies == [request.body, request.body]
        assert result.statuses == (Resting(oid=1),)


async def test_a_duplicate_nonce_on_a_resend_says_that_the_first_was_admitted():
    with pytest.raises(e.AlreadyAdmitted):
        await send(refused("Invalid nonce: duplicate nonce 1"), resend=True)


@pytest.mark.parametrize(
    "answer",
    [
        refused("Action already expired"),
        refused("Invalid nonce: nonce too low 1 < 2"),
        refused("User or API Wallet 0x14dc79964da2c08b23698b3d3cc7ca32193d9955 does not exist."),
        refused("Order has zero size."),
        statuses({"error": "Order price cannot be more than 80% away from the reference price"}),
        http(429, "null"),
        http(422, "Failed to deserialize the JSON body into the target type", content_type="text/plain"),
    ],
)
async def test_a_refused_resend_says_nothing_of_the_first_sending(answer):
    with pytest.raises(e.OutcomeUnknown) as unknown:
        await send(answer, resend=True)

    assert not isinstance(unknown.value, e.AlreadyAdmitted)


async def test_a_resend_that_finds_no_connection_leaves_the_outcome_unknown():
    async with open_http(f"http://127.0.0.1:{free_port()}") as client:
        with pytest.raises(e.OutcomeUnknown):
            await ExchangeClient(client).send(orders(), resend=True)


async def test_a_refusal_after_admission_settles_a_resend():
    result = await send(statuses({"error": "Insufficient margin to place order. asset=0"}), resend=True)

    assert isinstance(result.errors[0], e.InsufficientMargin)


async def test_being_cancelled_while_waiting_ends_the_request():
    async with scripted_venue(HANG) as venue, open_http(venue.http_url) as client:
        sending = asyncio.create_task(ExchangeClient(client).send(orders()))
        while not venue.requests:
            await asyncio.sleep(0.001)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
