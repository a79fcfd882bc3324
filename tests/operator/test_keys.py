"""Derived secrets: the same for ever, apart for every purpose, and never shown."""

import pickle

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from tradingbot_operator.keys import BadMasterKey, MasterKey

MASTER = MasterKey(bytes(range(32)))
BOT_ID = "6f1c8a52-0d3b-4e2e-9a51-2f0c6f1f7d11"


def test_derivations_never_change_because_a_retained_redis_knows_only_the_old_ones():
    assert MASTER.password(BOT_ID, "execution") == "c6a7b80fa2619761589b991fdc21de6c5f006821423688b25170c87cb640f79d"
    assert (
        MASTER.paper_agent_key(BOT_ID).get_secret_value()
        == "0xebc515a8ee77efb35ddcf84ff12f2c5b93bd4f7a70fb29ee233c294562f63eeb"
    )
    assert MASTER.paper_agent_address(BOT_ID) == "0xd227b033ff948ac7b7dddb956709cf2f8c896bba"
    assert MASTER.paper_account(BOT_ID) == "0x4d4f44c6effdd087e704f5c7878e0019358c3c04"


@given(st.binary(min_size=32, max_size=32), st.text(max_size=60))
def test_the_agents_address_is_the_one_its_key_signs_for(key, bot_id):
    master = MasterKey(key)
    signer = Account.from_key(master.paper_agent_key(bot_id).get_secret_value())
    assert signer.address.lower() == master.paper_agent_address(bot_id)


@given(st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5)), min_size=2, max_size=2, unique=True))
def test_no_two_bots_or_users_share_a_password(pairs):
    (bot, user), (other_bot, other_user) = pairs
    assert MASTER.password(bot, user) != MASTER.password(other_bot, other_user)


def test_no_two_purposes_share_a_value():
    account, agent = MASTER.paper_account(BOT_ID), MASTER.paper_agent_key(BOT_ID).get_secret_value()
    password = MASTER.password(BOT_ID, "execution")
    assert len({account[2:], agent[-40:], password[-40:]}) == 3


def test_another_master_key_derives_nothing_that_this_one_does():
    other = MasterKey(bytes(32))
    assert other.password(BOT_ID, "monitor") != MASTER.password(BOT_ID, "monitor")
    assert other.paper_account(BOT_ID) != MASTER.paper_account(BOT_ID)


def test_a_master_key_cannot_be_printed_formatted_or_pickled():
    secret = bytes(range(32))
    for shown in (repr(MASTER), str(MASTER), f"{MASTER}", repr(MASTER.text()), repr(MASTER.paper_agent_key(BOT_ID))):
        assert secret.hex()[:16] not in shown
        assert "\\x01\\x02" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(MASTER)


def test_a_master_key_survives_its_secret():
    again = MasterKey.from_text(MASTER.text().get_secret_value() + "\n")
    assert again.password(BOT_ID, "person") == MASTER.password(BOT_ID, "person")


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "ab" * 31, "ab" * 33])
def test_a_broken_master_key_is_refused_without_being_shown(text):
    with pytest.raises(BadMasterKey) as refused:
        MasterKey.from_text(text)
    assert not text or text not in str(refused.value)


def test_two_generated_master_keys_differ():
    assert MasterKey.generate().text() != MasterKey.generate().text()
