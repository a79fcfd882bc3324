"""Derived secrets: the same for ever, apart for every purpose, and never shown."""

import pickle
from urllib.parse import urlsplit

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from support.operator_render import bot as bot_from
from tradingbot_operator.keys import BadMasterKey, MasterKey, account_of
from tradingbot_operator.render.secrets import secrets

MASTER = MasterKey(bytes(range(32)))
NAMESPACE = "bots"
BOT_ID = "6f1c8a52-0d3b-4e2e-9a51-2f0c6f1f7d11"


def test_derivations_never_change_because_a_retained_redis_knows_only_the_old_ones():
    assert (
        MASTER.password(NAMESPACE, BOT_ID, "execution")
        == "265a02b6c3aaff26df117cf1e04359a2f320b8f2a19035f0e4c33df591eaa103"
    )
    assert (
        MASTER.paper_agent_key(NAMESPACE, BOT_ID).get_secret_value()
        == "0xbd953460c6a2e1aca9e9d00296d8927508d92667994533aab09bfe0f6967850a"
    )
    assert MASTER.paper_agent_address(NAMESPACE, BOT_ID) == "0xe3ed637795707cae8180519de30403e9ced1dc7e"
    assert MASTER.paper_account(NAMESPACE, BOT_ID) == "0xfc28322885b5c7a1bdd90871207b1d88a89fc77e"


@given(st.binary(min_size=32, max_size=32), st.text(max_size=60), st.text(max_size=60))
def test_the_agents_address_is_the_one_its_key_signs_for(key, namespace, bot_id):
    master = MasterKey(key)
    signer = Account.from_key(master.paper_agent_key(namespace, bot_id).get_secret_value())
    assert signer.address.lower() == master.paper_agent_address(namespace, bot_id)


WHO = st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5))


@given(st.lists(WHO, min_size=2, max_size=2, unique=True))
def test_no_two_namespaces_bots_or_users_share_a_password(whose):
    one, other = whose
    assert MASTER.password(*one) != MASTER.password(*other)


def test_a_bot_that_adopts_the_id_of_one_elsewhere_is_given_nothing_of_its():
    own, theirs = bot_from(), bot_from({"redis": {"adopt": BOT_ID}}, namespace="elsewhere", uid=BOT_ID[::-1])
    assert own.bot_id == theirs.bot_id
    held = [value for each in secrets(own, MASTER) for value in each["stringData"].values()]
    told = "".join(value for each in secrets(theirs, MASTER) for value in each["stringData"].values())
    assert held
    assert not [value for value in held if secret_of(value) in told]
    assert account_of(theirs, MASTER) != account_of(own, MASTER)


def test_a_bot_that_adopts_in_its_own_namespace_goes_on_with_all_of_it():
    own, heir = bot_from(), bot_from({"redis": {"adopt": BOT_ID}}, uid=BOT_ID[::-1])
    assert secrets(heir, MASTER)[0]["stringData"] == secrets(own, MASTER)[0]["stringData"]
    assert secrets(heir, MASTER)[1]["stringData"] == secrets(own, MASTER)[1]["stringData"]
    assert account_of(heir, MASTER) == account_of(own, MASTER)


def secret_of(text: str) -> str:
    """The password of a URL, or all of it."""
    return urlsplit(text).password or text


def test_no_two_purposes_share_a_value():
    account, agent = (
        MASTER.paper_account(NAMESPACE, BOT_ID),
        MASTER.paper_agent_key(NAMESPACE, BOT_ID).get_secret_value(),
    )
    password = MASTER.password(NAMESPACE, BOT_ID, "execution")
    assert len({account[2:], agent[-40:], password[-40:]}) == 3


def test_another_master_key_derives_nothing_that_this_one_does():
    other = MasterKey(bytes(32))
    assert other.password(NAMESPACE, BOT_ID, "monitor") != MASTER.password(NAMESPACE, BOT_ID, "monitor")
    assert other.paper_account(NAMESPACE, BOT_ID) != MASTER.paper_account(NAMESPACE, BOT_ID)


def test_a_master_key_cannot_be_printed_formatted_or_pickled():
    secret = bytes(range(32))
    for shown in (
        repr(MASTER),
        str(MASTER),
        f"{MASTER}",
        repr(MASTER.text()),
        repr(MASTER.paper_agent_key(NAMESPACE, BOT_ID)),
    ):
        assert secret.hex()[:16] not in shown
        assert "\\x01\\x02" not in shown
    with pytest.raises(TypeError):
        pickle.dumps(MASTER)


def test_a_master_key_survives_its_secret():
    again = MasterKey.from_text(MASTER.text().get_secret_value() + "\n")
    assert again.password(NAMESPACE, BOT_ID, "person") == MASTER.password(NAMESPACE, BOT_ID, "person")


@pytest.mark.parametrize("text", ["", "00", "zz" * 32, "ab" * 31, "ab" * 33])
def test_a_broken_master_key_is_refused_without_being_shown(text):
    with pytest.raises(BadMasterKey) as refused:
        MasterKey.from_text(text)
    assert not text or text not in str(refused.value)


def test_two_generated_master_keys_differ():
    assert MasterKey.generate().text() != MasterKey.generate().text()
