"""What must hold before the first order: each judgement, and the whole run against the paper exchange."""

from contextlib import asynccontextmanager
from dataclasses import replace
from decimal import Decimal
from itertools import count

import pytest
import stamina
from pydantic import SecretStr

from support.paper import ACCOUNT, SetPrices, paper_exchange
from tradingbot.bus.library import ServerFacts
from tradingbot.domain.params import Params, merge_override
from tradingbot.domain.static import Network
from tradingbot.execution import readiness as judge
from tradingbot.execution.preflight import Server, Subject, run_preflight
from tradingbot.execution.readiness import Verdict
from tradingbot.venue.budget import MemoryBudget
from tradingbot.venue.errors import LeverageRefused
from tradingbot.venue.exchange import ExchangeClient
from tradingbot.venue.http import open_http
from tradingbot.venue.info import InfoClient
from tradingbot.venue.models import Account, ActiveAsset, ExtraAgent, UserRateLimit, UserRole
from tradingbot.venue.precision import AssetSpec
from tradingbot.venue.signing import Signer
from tradingbot.venue.wire import update_leverage_action

OK, WARNING, FAILED = Verdict.OK, Verdict.WARNING, Verdict.FAILED
SIGNER = Signer(SecretStr("0x" + "11" * 32), Network.PAPER)
NOW_MS = 1_771_430_400_000
DAY_MS = 86_400_000
MASTER = "0x" + "ab" * 20
AGENT = "0x" + "cd" * 20

DURABLE = ServerFacts(
    software="valkey",
    version=(9, 0, 1),
    maxmemory_bytes=0,
    used_memory_bytes=0,
    maxmemory_policy="noeviction",
    appendonly=True,
    appendfsync="always",
    library_loaded=True,
)


def spec(symbol="BTC", *, asset_id=0, sz_decimals=5, delisted=False, only_isolated=False, max_leverage=40):
    return AssetSpec(
        symbol=symbol,
        asset_id=asset_id,
        sz_decimals=sz_decimals,
        max_leverage=max_leverage,
        delisted=delisted,
        only_isolated=only_isolated,
    )


def account(equity="10000"):
    money = Decimal(equity)
    return Account(
        equity=money,
        total_raw_usd=money,
        total_notional=Decimal(0),
        margin_used=Decimal(0),
        maintenance_margin=Decimal(0),
        withdrawable=money,
        positions={},
        time_ms=NOW_MS,
    )


def asset(leverage, *, is_cross=True):
    return ActiveAsset(symbol="BTC", leverage=leverage, is_cross=is_cross, mark_px=None, available_to_trade=())


def params(**values):
    return merge_override(Params(), {name.replace("__", "."): value for name, value in values.items()})


@pytest.mark.parametrize(("kept", "verdict"), [(None, OK), ("ours", OK), ("theirs", FAILED)])
def test_a_redis_of_another_bot_forbids_trading(kept, verdict):
    check = judge.judge_identity(kept, "ours")

    assert check.verdict is verdict
    assert verdict is OK or "theirs" in check.text


def test_a_coin_that_the_network_does_not_have_forbids_trading_and_a_delisted_one_warns():
    specs = {"BTC": spec(), "OLD": spec("OLD", delisted=True)}

    assert judge.judge_universe(["BTC"], specs, Network.PAPER).verdict is OK
    assert judge.judge_universe(["BTC", "OLD"], specs, Network.PAPER).verdict is WARNING
    check = judge.judge_universe(["BTC", "NEW"], specs, Network.TESTNET)
    assert (check.verdict, "NEW" in check.text, "testnet" in check.text) == (FAILED, True, True)


@pytest.mark.parametrize(
    ("role", "equity", "verdict", "word"),
    [
        (UserRole(role="user"), "10", OK, "10.00"),
        (UserRole(role="subAccount", master=MASTER), "10", OK, "10.00"),
        (UserRole(role="user"), "0", FAILED, "deposit"),
        (UserRole(role="missing"), "0", FAILED, "deposit"),
        (UserRole(role="agent", master=MASTER), "0", FAILED, MASTER),
    ],
)
def test_the_account_must_be_one_and_hold_money(role, equity, verdict, word):
    check = judge.judge_account_address(account(equity), role, AGENT)

    assert check.verdict is verdict
    assert word in check.text


@pytest.mark.parametrize(
    ("role", "signer", "network", "verdict"),
    [
        (UserRole(role="agent", master=MASTER), AGENT, Network.MAINNET, OK),
        (UserRole(role="agent", master="0x" + "ee" * 20), AGENT, Network.MAINNET, FAILED),
        (UserRole(role="missing"), AGENT, Network.MAINNET, FAILED),
        (UserRole(role="user"), AGENT, Network.PAPER, FAILED),
        (UserRole(role="user"), MASTER, Network.MAINNET, FAILED),
        (UserRole(role="user"), MASTER, Network.TESTNET, FAILED),
        (UserRole(role="user"), MASTER, Network.PAPER, OK),
    ],
)
def test_the_key_must_be_an_api_wallet_of_the_account(role, signer, network, verdict):
    assert (
        judge.judge_key(role, signer=signer, account=MASTER.upper().replace("X", "x"), network=network).verdict
        is verdict
    )


STRANGER = "0x" + "ee" * 20
VAULT = "0x" + "5A" * 20


@pytest.mark.parametrize(
    ("role", "owner", "vault", "verdict"),
    [
        (UserRole(role="agent", master=MASTER), UserRole(role="subAccount", master=MASTER), VAULT, OK),
        (UserRole(role="agent", master=STRANGER), UserRole(role="subAccount", master=MASTER), VAULT, FAILED),
        (UserRole(role="agent", master=MASTER), UserRole(role="vault"), VAULT, WARNING),
        (UserRole(role="missing"), UserRole(role="vault"), VAULT, FAILED),
        (UserRole(role="agent", master=MASTER), UserRole(role="user"), VAULT, FAILED),
        (UserRole(role="agent", master=MASTER), UserRole(role="subAccount", master=MASTER), STRANGER, FAILED),
    ],
)
def test_a_vault_is_traded_with_an_api_wallet_of_the_account_that_leads_it(role, owner, vault, verdict):
    check = judge.judge_vault_key(
        role, owner, signer=AGENT, account=VAULT.lower(), vault=vault, network=Network.MAINNET
    )

    assert check.verdict is verdict, check.text


@pytest.mark.parametrize(
    ("until_ms", "verdict"),
    [(None, OK), (NOW_MS + 30 * DAY_MS, OK), (NOW_MS + DAY_MS, WARNING), (NOW_MS, FAILED), (NOW_MS - 1, FAILED)],
)
def test_an_expiring_key_warns_a_week_before_and_an_expired_one_forbids(until_ms, verdict):
    agents = [ExtraAgent(name="bot", address=AGENT, valid_until_ms=until_ms)]

    assert judge.judge_key_expiry(agents, signer=AGENT, now_ms=NOW_MS, network=Network.MAINNET).verdict is verdict


def test_a_key_whose_end_the_venue_does_not_tell_warns_off_the_paper_exchange():
    verdicts = {net: judge.judge_key_expiry([], signer=AGENT, now_ms=NOW_MS, network=net).verdict for net in Network}

    assert verdicts == {Network.PAPER: OK, Network.TESTNET: WARNING, Network.MAINNET: WARNING}


@pytest.mark.parametrize(
    ("mode", "verdict"),
    [("default", OK), ("disabled", OK), ("unifiedAccount", FAILED), ("portfolioMargin", FAILED), ("new", FAILED)],
)
def test_only_the_account_modes_whose_figures_are_true_may_trade(mode, verdict):
    assert judge.judge_account_mode(mode).verdict is verdict


@pytest.mark.parametrize(("gross", "most", "wanted"), [(0.4, 40, 1), (0.5, 40, 1), (0.6, 40, 2), (3, 40, 6), (3, 5, 5)])
def test_the_wanted_leverage_is_the_least_at_which_positions_and_as_many_orders_fit(gross, most, wanted):
    assert judge.wanted_leverage(params(risk__max_gross=gross), spec(max_leverage=most)) == wanted


@pytest.mark.parametrize(
    ("found", "apply", "verdict"),
    [
        (asset(1), True, OK),
        (asset(20), True, WARNING),
        (asset(1, is_cross=False), True, FAILED),
        (asset(20), False, WARNING),
        (asset(1, is_cross=False), False, WARNING),
    ],
)
def test_leverage_and_margin_mode_are_judged_as_read_back(found, apply, verdict):
    check = judge.judge_leverage(found, Params(), spec(), refusal="because", apply=apply)

    assert check.verdict is verdict
    assert verdict is OK or not apply or "because" in check.text


def test_too_little_leverage_forbids_trading():
    assert judge.judge_leverage(asset(1), params(risk__max_gross=2), spec()).verdict is FAILED


def test_a_coin_that_only_knows_isolated_margin_is_wanted_isolated():
    assert judge.judge_leverage(asset(1, is_cross=False), Params(), spec(only_isolated=True)).verdict is OK
    assert judge.judge_leverage(asset(1), Params(), spec(only_isolated=True)).verdict is FAILED


@pytest.mark.parametrize(
    ("equity", "verdict"),
    [("600", OK), ("599", WARNING), ("239", FAILED)],
)
def test_a_cap_below_the_venues_smallest_order_is_told_with_the_equity_it_needs(equity, verdict):
    # Caps of 0.05 and 0.02: a slice of 12 USD needs 240 and 600 USD.
    limits = params(risk__caps={"BTC": 0.05}, risk__default_cap=0.02)
    specs = {"BTC": spec(), "DOGE": spec("DOGE", sz_decimals=0)}
    mids = {"BTC": Decimal(60000), "DOGE": Decimal("0.1")}
    check = judge.judge_balance(account(equity), limits, specs=specs, mids=mids, universe=["BTC", "DOGE"])

    assert check.verdict is verdict
    assert verdict is OK or "DOGE from 600 USD" in check.text


def test_a_lot_that_is_worth_more_than_the_minimum_counts():
    check = judge.judge_balance(
        account("1000"),
        params(risk__default_cap=0.1),
        specs={"BIG": spec("BIG", sz_decimals=0)},
        mids={"BIG": Decimal(500)},
        universe=["BIG"],
    )

    assert "BIG from 5000 USD" in check.text


@pytest.mark.parametrize(
    ("skew_ms", "speed", "verdict"),
    [
        (0, 1, OK),
        (-499, 1, OK),
        (500, 1, WARNING),
        (-1000, 1, FAILED),
        (1000, 1, FAILED),
        (3000, 30, OK),
        (7500, 30, FAILED),
    ],
)
def test_clocks_may_differ_by_less_than_a_second_or_a_quarter_real_one(skew_ms, speed, verdict):
    assert judge.judge_clock(skew_ms, speed=speed).verdict is verdict


@pytest.mark.parametrize(("used", "verdict"), [(0, OK), (9_500, WARNING), (10_000, FAILED), (10_500, FAILED)])
def test_an_exhausted_action_budget_forbids_trading(used, verdict):
    limit = UserRateLimit(volume_usd=Decimal(0), used=used, cap=10_000)

    assert judge.judge_action_budget(limit, Params()).verdict is verdict


@pytest.mark.parametrize(("weight", "verdict"), [(1100, OK), (200, WARNING)])
def test_a_small_share_of_the_address_warns(weight, verdict):
    assert judge.judge_ip_budget(weight).verdict is verdict


@pytest.mark.parametrize(
    ("facts", "network", "accept", "verdict"),
    [
        (DURABLE, Network.MAINNET, False, OK),
        (replace(DURABLE, appendfsync="everysec"), Network.MAINNET, False, FAILED),
        (replace(DURABLE, appendfsync="everysec"), Network.MAINNET, True, WARNING),
        (replace(DURABLE, appendfsync="everysec"), Network.TESTNET, False, WARNING),
        (replace(DURABLE, appendonly=False), Network.MAINNET, False, FAILED),
        (replace(DURABLE, appendfsync=None), Network.MAINNET, False, FAILED),
        (replace(DURABLE, maxmemory_policy="allkeys-lru"), Network.PAPER, True, FAILED),
    ],
)
def test_weak_durability_must_be_accepted_on_the_main_network(facts, network, accept, verdict):
    assert judge.judge_durability(facts, network=network, accept_weak=accept).verdict is verdict


@pytest.mark.parametrize(
    ("version", "verdict"),
    [
        ((7, 0, 15), WARNING),
        ((7, 2, 15), WARNING),
        ((7, 2, 16), OK),
        ((7, 4, 10), WARNING),
        ((8, 0, 6), WARNING),
        ((8, 2, 9), OK),
        ((8, 8, 1), WARNING),
        ((8, 8, 2), OK),
        ((8, 10, 0), OK),
        ((9, 0), OK),
    ],
)
def test_a_redis_older_than_its_stream_fix_warns(version, verdict):
    assert judge.judge_server_version(replace(DURABLE, software="redis", version=version)).verdict is verdict


def test_valkey_is_not_judged_by_redis_numbers():
    assert judge.judge_server_version(replace(DURABLE, version=(8, 0, 0))).verdict is OK


@pytest.fixture(autouse=True)
def retries_without_waiting():
    with stamina.set_testing(True, attempts=2, cap=True):
        yield


SUBJECT = Subject(
    network=Network.PAPER,
    account=ACCOUNT,
    signer=SIGNER.address,
    universe=("BTC", "ETH"),
    params=Params(),
    ip_weight_per_min=1100,
)


@asynccontextmanager
async def venue(**options):
    async with (
        paper_exchange(prices=SetPrices(), agents=(SIGNER.address,), **options) as paper,
        open_http(paper.http_url) as http,
    ):
        nonces = count(paper.clock.now_ms())

        async def set_leverage(asset_spec, leverage, is_cross):
            action = update_leverage_action(asset_spec.asset_id, is_cross=is_cross, leverage=leverage)
            await ExchangeClient(http).send(SIGNER.sign(action, nonce=next(nonces), expires_after_ms=None))

        yield paper, InfoClient(http, MemoryBudget(paper.clock, capacity_per_min=100_000)), set_leverage


def verdicts(report):
    return {check.name: check.verdict for check in report.checks}


async def test_a_bot_that_is_set_up_well_may_trade():
    server = Server(facts=DURABLE, identity_kept="me", identity_ours="me")
    async with venue() as (paper, info, set_leverage):
        report = await run_preflight(SUBJECT, info=info, clock=paper.clock, server=server, set_leverage=set_leverage)
        read_back = await info.active_asset_data(ACCOUNT, "BTC")

    assert report.may_trade, report.failures
    assert set(verdicts(report)) >= {
        *("identity", "durability", "server_version", "ip_budget", "clock", "network", "account", "account_mode"),
        *("action_budget", "key", "key_expiry", "balance", "leverage:BTC", "leverage:ETH"),
    }
    assert set(verdicts(report).values()) == {OK}
    assert (read_back.leverage, read_back.is_cross) == (1, True)
    assert report.details()["verdict"] == "ok"


async def test_without_the_right_to_set_leverage_nothing_is_changed_and_it_is_told():
    async with venue() as (paper, info, _):
        before = await info.active_asset_data(ACCOUNT, "BTC")
        report = await run_preflight(SUBJECT, info=info, clock=paper.clock)
        after = await info.active_asset_data(ACCOUNT, "BTC")

        assert before == after
        assert not [each for each in paper.log("action") if "updateLeverage" in str(each)]
    assert verdicts(report)["leverage:BTC"] is WARNING
    assert report.may_trade


async def test_a_dry_run_needs_no_key_and_sends_nothing():
    async with venue() as (paper, info, set_leverage):
        subject = replace(SUBJECT, signer=None)
        report = await run_preflight(subject, info=info, clock=paper.clock, set_leverage=set_leverage)

        assert not [each for each in paper.log("action") if "updateLeverage" in str(each)]
    assert verdicts(report)["key"] is OK
    assert report.may_trade


async def test_a_refused_leverage_is_told_with_the_venues_words():
    async def refuse(*_):
        raise LeverageRefused("Cross position does not have sufficient margin available to decrease leverage")

    async with venue() as (paper, info, _):
        report = await run_preflight(SUBJECT, info=info, clock=paper.clock, set_leverage=refuse)

    (check,) = [each for each in report.checks if each.name == "leverage:BTC"]
    assert check.verdict is WARNING
    assert "sufficient margin" in check.text


async def test_a_strangers_key_forbids_trading():
    stranger = Signer(SecretStr("0x" + "22" * 32), Network.PAPER).address
    async with venue() as (paper, info, _):
        report = await run_preflight(replace(SUBJECT, signer=stranger), info=info, clock=paper.clock)

    assert [check.name for check in report.failures] == ["key"]


@pytest.mark.parametrize(("vault", "word"), [(VAULT, "set both"), (ACCOUNT, "leave HL_VAULT_ADDRESS empty")])
async def test_a_vault_address_that_does_not_fit_the_account_forbids_trading(vault, word):
    async with venue() as (paper, info, _):
        report = await run_preflight(replace(SUBJECT, vault=vault), info=info, clock=paper.clock)

    (check,) = report.failures
    assert check.name == "key"
    assert word in check.text


async def test_a_sub_account_led_by_the_keys_account_may_be_traded():
    """The paper exchange has no sub-accounts: what the venue says of the account is put into its mouth."""

    class Led(InfoClient):
        async def user_role(self, address):
            role = await super().user_role(address)
            return role if role.role == "agent" else UserRole(role="subAccount", master=ACCOUNT)

    async with venue() as (paper, _, _), open_http(paper.http_url) as http:
        led = Led(http, MemoryBudget(paper.clock, capacity_per_min=100_000))
        report = await run_preflight(replace(SUBJECT, vault=ACCOUNT), info=led, clock=paper.clock)

    assert verdicts(report)["key"] is OK
    assert report.may_trade


async def test_an_api_wallets_address_in_place_of_the_account_is_told():
    async with venue() as (paper, info, _):
        report = await run_preflight(replace(SUBJECT, account=SIGNER.address), info=info, clock=paper.clock)

    (check,) = [each for each in report.checks if each.name == "account"]
    assert check.verdict is FAILED
    assert ACCOUNT in check.text


async def test_a_venue_that_does_not_answer_is_a_failed_check_and_never_an_exception():
    async with venue() as (paper, info, _):
        paper.faults({"kind": "server_error", "path": "/info"})
        report = await run_preflight(SUBJECT, info=info, clock=paper.clock)

    assert not report.may_trade
    assert {check.name for check in report.failures} == {"clock", "network"}


async def test_one_question_without_an_answer_does_not_hide_the_others():
    async with venue() as (paper, info, _):
        paper.faults({"kind": "server_error", "path": "/info", "type": "userRateLimit"})
        report = await run_preflight(SUBJECT, info=info, clock=paper.clock)

    assert [check.name for check in report.failures] == ["action_budget"]
    assert "balance" in verdicts(report)
