"""Signatures against the official SDK's published vectors, and a key that shows nowhere."""

import copy
import json
import logging
import pickle
import traceback
from decimal import Decimal

import pytest
import structlog
from hyperliquid.utils.signing import action_hash, recover_agent_or_user_from_l1_action
from pydantic import SecretStr

from tradingbot.domain.ids import Cloid
from tradingbot.domain.messages import Side
from tradingbot.domain.static import Network
from tradingbot.venue.signing import BadKey, Signer, SigningFailed
from tradingbot.venue.wire import (
    WireOrder,
    batch_size,
    cancel_action,
    cancel_by_cloid_action,
    noop_action,
    order_action,
    schedule_cancel_action,
    update_leverage_action,
)

KEY = "0x0123456789012345678901234567890123456789012345678901234567890123"
DIGITS = "0123456789012345678901234567890123456789012345678901234567890123"
CLOID = Cloid("0x00000000000000000000000000000001")
VAULT = "0x1719884eb866cb12b2287399b15f7db5e7d775ea"


def limit(asset_id=1, px="100", size="100", tif="Gtc", cloid=None):
    return WireOrder(asset_id=asset_id, side=Side.BUY, px=Decimal(px), size=Decimal(size), tif=tif, cloid=cloid)


def trigger_action():
    order = limit().fields()
    order["t"] = {"trigger": {"isMarket": True, "triggerPx": "103", "tpsl": "sl"}}
    return {"type": "order", "orders": [order], "grouping": "na"}


def signature(action, network, *, vault=None, nonce=0, expires_after_ms=None):
    signed = Signer(SecretStr(KEY), network, vault).sign(action, nonce=nonce, expires_after_ms=expires_after_ms)
    return json.loads(signed.body)["signature"]


VECTORS = [
    (
        order_action([limit()]),
        Network.MAINNET,
        "0xd65369825a9df5d80099e513cce430311d7d26ddf477f5b3a33d2806b100d78e",
        "0x2b54116ff64054968aa237c20ca9ff68000f977c93289157748a3162b6ea940e",
        28,
    ),
    (
        order_action([limit()]),
        Network.TESTNET,
        "0x82b2ba28e76b3d761093aaded1b1cdad4960b3af30212b343fb2e6cdfa4e3d54",
        "0x6b53878fc99d26047f4d7e8c90eb98955a109f44209163f52d8dc4278cbbd9f5",
        27,
    ),
    (
        order_action([limit(cloid=CLOID)]),
        Network.MAINNET,
        "0x41ae18e8239a56cacbc5dad94d45d0b747e5da11ad564077fcac71277a946e3",
        "0x3c61f667e747404fe7eea8f90ab0e76cc12ce60270438b2058324681a00116da",
        27,
    ),
    (
        order_action([limit(cloid=CLOID)]),
        Network.TESTNET,
        "0xeba0664bed2676fc4e5a743bf89e5c7501aa6d870bdb9446e122c9466c5cd16d",
        "0x7f3e74825c9114bc59086f1eebea2928c190fdfbfde144827cb02b85bbe90988",
        28,
    ),
    (
        trigger_action(),
        Network.MAINNET,
        "0x98343f2b5ae8e26bb2587daad3863bc70d8792b09af1841b6fdd530a2065a3f9",
        "0x6b5bb6bb0633b710aa22b721dd9dee6d083646a5f8e581a20b545be6c1feb405",
        27,
    ),
    (
        schedule_cancel_action(None),
        Network.MAINNET,
        "0x6cdfb286702f5917e76cd9b3b8bf678fcc49aec194c02a73e6d4f16891195df9",
        "0x6557ac307fa05d25b8d61f21fb8a938e703b3d9bf575f6717ba21ec61261b2a0",
        27,
    ),
    (
        schedule_cancel_action(123456789),
        Network.MAINNET,
        "0x609cb20c737945d070716dcc696ba030e9976fcf5edad87afa7d877493109d55",
        "0x16c685d63b5c7a04512d73f183b3d7a00da5406ff1f8aad33f8ae2163bab758b",
        28,
    ),
]


@pytest.mark.parametrize(("action", "network", "r", "s", "v"), VECTORS)
def test_signatures_are_the_official_ones(action, network, r, s, v):
    assert signature(action, network) == {"r": r, "s": s, "v": v}


def test_a_vaults_address_enters_the_signature():
    assert signature(
        {"type": "dummy", "num": 100000000000}, Network.MAINNET, vault=VAULT.upper().replace("X", "x")
    ) == {
        "r": "0x3c548db75e479f8012acf3000ca3a6b05606bc2ec0c29c50c515066a326239",
        "s": "0x4d402be7396ce74fbba3795769cda45aec00dc3125a984f2a9f23177b190da2c",
        "v": 28,
    }


def test_the_hash_of_our_order_is_the_official_one():
    action = order_action([limit(asset_id=4, px="1670.1", size="0.0147", tif="Ioc")])

    assert action_hash(action, None, 1677777606040, None).hex() == (
        "0fcbeda5ae3c4950a548021552a4fea2226858c4453571bf3f24ba017eac2908"
    )


def test_paper_signs_with_testnets_letter():
    assert signature(order_action([limit()]), Network.PAPER) == signature(order_action([limit()]), Network.TESTNET)


def test_the_expiry_enters_the_signature():
    action = order_action([limit()])
    signed = Signer(SecretStr(KEY), Network.PAPER).sign(action, nonce=7, expires_after_ms=1700000005000)
    envelope = json.loads(signed.body)

    recovered = recover_agent_or_user_from_l1_action(
        envelope["action"], envelope["signature"], None, 7, 1700000005000, False
    )
    assert recovered.lower() == Signer(SecretStr(KEY), Network.PAPER).address
    assert envelope["expiresAfter"] == 1700000005000


def test_the_same_intent_is_the_same_bytes_in_every_process():
    action = order_action([limit(cloid=CLOID)])
    first, second = (
        Signer(SecretStr(KEY), Network.PAPER).sign(copy.deepcopy(action), nonce=7, expires_after_ms=9) for _ in range(2)
    )

    assert first == second
    assert first.body == second.body


def test_another_nonce_is_another_body():
    signer = Signer(SecretStr(KEY), Network.PAPER)

    assert (
        signer.sign(noop_action(), nonce=1, expires_after_ms=None).body
        != signer.sign(noop_action(), nonce=2, expires_after_ms=None).body
    )


def test_the_envelope_has_every_field_that_the_venue_reads_and_no_other():
    signed = Signer(SecretStr(KEY), Network.PAPER).sign(noop_action(), nonce=5, expires_after_ms=None)

    assert list(json.loads(signed.body)) == ["action", "nonce", "signature", "vaultAddress", "expiresAfter"]


def test_a_key_may_come_with_white_space_and_without_its_prefix():
    assert Signer(SecretStr(f" {DIGITS}\n"), Network.PAPER).address == Signer(SecretStr(KEY), Network.PAPER).address


@pytest.mark.parametrize("key", ["", "0x12", "hello", KEY + "00", "0x" + "zz" * 32, "0x" + "00" * 32])
def test_what_is_no_key_is_refused_without_showing_it(key):
    with pytest.raises(BadKey) as failure:
        Signer(SecretStr(key), Network.PAPER)

    assert not key or key not in str(failure.value)
    assert failure.value.__cause__ is None
    assert failure.value.__context__ is None


def test_an_action_that_cannot_be_hashed_is_a_typed_error_without_a_cause():
    with pytest.raises(SigningFailed) as failure:
        Signer(SecretStr(KEY), Network.PAPER).sign({"type": "order", "bad": object()}, nonce=1, expires_after_ms=None)

    assert failure.value.__context__ is None


def every_shape_of(error):
    """The ways a log may print an error, with every local variable of every frame."""
    yield str(error)
    yield repr(error)
    yield "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())
    show = structlog.processors.ExceptionRenderer(structlog.tracebacks.ExceptionDictTransformer(show_locals=True))
    yield json.dumps(show(None, "error", {"event": "failed", "exc_info": error}), default=repr)


def test_no_error_shows_the_key_in_its_text_causes_or_frames(monkeypatch):
    def fail(self, message_hash, private_key):
        raise ValueError(f"cannot sign with {private_key!r}")

    secrets = {KEY, DIGITS, str(bytes.fromhex(DIGITS)), str(int(DIGITS, 16))}
    found = []
    cases = [(KEY, {"type": "order", "bad": object()}), (KEY + "00", noop_action()), (KEY, noop_action())]
    for key, action in cases:
        if (key, action) == cases[-1]:
            monkeypatch.setattr("eth_keys.backends.coincurve.CoinCurveECCBackend.ecdsa_sign", fail)
        try:
            Signer(SecretStr(key), Network.PAPER).sign(action, nonce=1, expires_after_ms=None)
            found.append("no error")
        except (SigningFailed, BadKey) as error:
            error.__traceback__ = error.__traceback__.tb_next  # this frame's own locals hold the key
            found += [shape for shape in every_shape_of(error) if any(secret in shape for secret in secrets)]

    assert not found


def test_neither_the_signer_nor_what_it_makes_shows_the_key(caplog):
    caplog.set_level(logging.DEBUG)
    signer = Signer(SecretStr(KEY), Network.PAPER)
    signed = signer.sign(order_action([limit()]), nonce=1, expires_after_ms=None)
    logging.getLogger("test").info("%r %s %r", signer, signer, signed)

    shown = [repr(signer), str(signer), f"{signer}", repr(signed), signed.body.decode(), caplog.text]
    assert not [text for text in shown if DIGITS in text]
    assert signer.address in repr(signer)


@pytest.mark.parametrize("leave", [pickle.dumps, copy.copy, copy.deepcopy, vars])
def test_a_signer_can_neither_be_copied_nor_written_out(leave):
    with pytest.raises(TypeError):
        leave(Signer(SecretStr(KEY), Network.PAPER))


def test_orders_are_written_in_the_order_that_is_hashed():
    order = WireOrder(
        asset_id=5,
        side=Side.SELL,
        px=Decimal("20.50"),
        size=Decimal("1.20"),
        tif="Alo",
        reduce_only=True,
        cloid=Cloid("0xABCDEF00000000000000000000000001"),
    )

    assert json.dumps(order_action([order])) == json.dumps(
        {
            "type": "order",
            "orders": [
                {
                    "a": 5,
                    "b": False,
                    "p": "20.5",
                    "s": "1.2",
                    "r": True,
                    "t": {"limit": {"tif": "Alo"}},
                    "c": "0xabcdef00000000000000000000000001",
                }
            ],
            "grouping": "na",
        }
    )


def test_cancels_and_leverage_have_the_documented_form():
    assert json.dumps(cancel_action([(1, 77)])) == '{"type": "cancel", "cancels": [{"a": 1, "o": 77}]}'
    assert json.dumps(cancel_by_cloid_action([(1, CLOID)])) == (
        '{"type": "cancelByCloid", "cancels": [{"asset": 1, "cloid": "0x00000000000000000000000000000001"}]}'
    )
    assert json.dumps(update_leverage_action(3, is_cross=True, leverage=2)) == (
        '{"type": "updateLeverage", "asset": 3, "isCross": true, "leverage": 2}'
    )


@pytest.mark.parametrize("count", [0, 201])
def test_an_action_holds_one_to_two_hundred_entries(count):
    with pytest.raises(ValueError, match="1 to 200"):
        order_action([limit()] * count)


@pytest.mark.parametrize(
    ("action", "size"),
    [
        (order_action([limit()] * 3), 3),
        (cancel_action([(1, 2), (1, 3)]), 2),
        (cancel_by_cloid_action([(1, CLOID)]), 1),
        (update_leverage_action(1, is_cross=True, leverage=1), 1),
        (noop_action(), 1),
    ],
)
def test_an_action_knows_how_many_answers_it_gets(action, size):
    assert batch_size(action) == size
