"""What an access token is good for, and that fetching the key set is no way to shut everybody out."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from shared.db.models import Role
from shared.errors import Unauthenticated, Unavailable
from shared.ids import uuid7
from shared.security.principal import Credential, CredentialKind, Principal
from shared.security.ring_folder import OLDEST, KeyFile
from shared.security.rings import RingKey, public_key_id
from shared.security.token_keys import REFETCH_SECONDS, STALE_SECONDS, PublishedKeys
from shared.security.tokens import SKEW_SECONDS, TokenIssuer, TokenVerifier

WHO = Principal(uuid7(), uuid7(), Role.USER, Credential(CredentialKind.TOKEN, uuid7()))


def issuer(key: Ed25519PrivateKey, key_id: str = "", ahead: float = 0) -> TokenIssuer:
    """Signs with this key, by a clock that is so many seconds ahead; tokens live an hour."""
    ring_key = RingKey(key_id or public_key_id(key.public_key()), key, KeyFile(OLDEST, "signing"))
    return TokenIssuer(lambda: ring_key, 60, lambda: datetime.now(UTC) + timedelta(seconds=ahead))


class KeySet:
    """A key set that can be taken away, or be slow to answer."""

    def __init__(self) -> None:
        self.key = Ed25519PrivateKey.generate()
        self.there = True
        self.answering, self.asked = threading.Event(), threading.Event()
        self.answering.set()
        self.fetches = 0
        self.now = 0.0
        self.published = PublishedKeys(self.fetch, lambda: self.now)
        self.verifier = TokenVerifier(self.published)
        self.good = issuer(self.key).issue(WHO)
        self.made_up = issuer(Ed25519PrivateKey.generate(), "made-up").issue(WHO)

    def fetch(self) -> jwt.PyJWKSet:
        self.fetches += 1
        self.asked.set()
        assert self.answering.wait(20)
        if not self.there:
            raise Unavailable("away")
        public = json.loads(OKPAlgorithm.to_jwk(self.key.public_key()))
        return jwt.PyJWKSet([{**public, "kid": public_key_id(self.key.public_key()), "alg": "EdDSA"}])


@pytest.fixture
def keys() -> KeySet:
    return KeySet()


def test_a_known_key_does_not_wait_for_a_fetch_that_hangs(keys: KeySet) -> None:
    assert keys.verifier.verify(keys.good) == WHO
    keys.now += REFETCH_SECONDS
    keys.answering.clear()
    keys.asked.clear()
    with ThreadPoolExecutor(1) as pool:
        attack = pool.submit(keys.verifier.verify, keys.made_up)
        assert keys.asked.wait(20)
        try:
            assert keys.verifier.verify(keys.good) == WHO
            with pytest.raises(Unavailable) as refused:
                keys.verifier.verify(keys.made_up)
            assert refused.value.headers == {"Retry-After": "1"}
        finally:
            keys.answering.set()
        with pytest.raises(Unauthenticated):
            attack.result()
    assert keys.fetches == 2


def test_a_fetch_that_fails_is_not_repeated_at_once_and_known_keys_stay(keys: KeySet) -> None:
    keys.verifier.verify(keys.good)
    keys.now += REFETCH_SECONDS
    keys.there = False
    for _ in range(5):
        with pytest.raises(Unavailable):
            keys.verifier.verify(keys.made_up)
    assert keys.fetches == 2
    assert keys.verifier.verify(keys.good) == WHO


def test_without_any_key_yet_nobody_is_told_that_the_token_is_wrong(keys: KeySet) -> None:
    keys.there = False
    for _ in range(3):
        with pytest.raises(Unavailable):
            keys.verifier.verify(keys.good)
    assert keys.fetches == 1
    keys.there, keys.now = True, REFETCH_SECONDS
    assert keys.verifier.verify(keys.good) == WHO


def test_callers_at_the_start_wait_for_the_one_fetch(keys: KeySet) -> None:
    keys.answering.clear()
    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(keys.verifier.verify, keys.good) for _ in range(4)]
        assert keys.asked.wait(20)
        keys.answering.set()
        assert [caller.result() for caller in callers] == [WHO] * 4
    assert keys.fetches == 1


def test_a_token_of_an_ended_session_or_account_is_refused_until_it_is_issued_anew(keys: KeySet) -> None:
    assert WHO.credential is not None
    ended: set[UUID] = set()
    valid_from: dict[UUID, datetime] = {}
    verifier = TokenVerifier(
        keys.published,
        is_revoked=lambda user, session, issued: session in ended or issued < valid_from.get(user, issued),
    )
    assert verifier.verify(keys.good) == WHO
    ended.add(WHO.credential.id)
    with pytest.raises(Unauthenticated, match=r"session .* has ended"):
        verifier.verify(keys.good)
    ended.clear()
    valid_from[WHO.user_id] = datetime.now(UTC)
    with pytest.raises(Unauthenticated):
        verifier.verify(keys.good)
    assert verifier.verify(issuer(keys.key).issue(WHO)) == WHO


def test_a_key_that_is_published_no_longer_is_forgotten_in_time(keys: KeySet) -> None:
    keys.verifier.verify(keys.good)
    keys.key = Ed25519PrivateKey.generate()
    assert keys.verifier.verify(keys.good) == WHO
    keys.now += STALE_SECONDS
    with pytest.raises(Unauthenticated):
        keys.verifier.verify(keys.good)


def test_a_key_that_cannot_be_looked_up_again_now_is_still_good(keys: KeySet) -> None:
    keys.verifier.verify(keys.good)
    keys.there = False
    keys.now += STALE_SECONDS
    assert keys.verifier.verify(keys.good) == WHO
    assert keys.fetches == 2


def test_a_new_key_that_cannot_be_asked_for_yet_is_not_the_callers_fault(keys: KeySet) -> None:
    keys.verifier.verify(keys.good)
    keys.now += REFETCH_SECONDS
    with pytest.raises(Unauthenticated):
        keys.verifier.verify(keys.made_up)
    keys.key = Ed25519PrivateKey.generate()
    keys.now += 3.5
    fresh = issuer(keys.key).issue(WHO)
    with pytest.raises(Unavailable) as refused:
        keys.verifier.verify(fresh)
    assert refused.value.headers == {"Retry-After": "7"}
    assert keys.verifier.verify(keys.good) == WHO
    keys.now += 7
    assert keys.verifier.verify(fresh) == WHO
    assert keys.fetches == 3


def test_tokens_with_made_up_keys_cost_others_nothing(keys: KeySet) -> None:
    keys.verifier.verify(keys.good)
    for second in range(60):
        keys.now = float(second)
        for token in (keys.made_up, issuer(Ed25519PrivateKey.generate()).issue(WHO)):
            with pytest.raises((Unauthenticated, Unavailable)):
                keys.verifier.verify(token)
        assert keys.verifier.has_key_of(keys.good)
        assert keys.verifier.verify(keys.good) == WHO
    assert keys.fetches == 60 / REFETCH_SECONDS


@pytest.mark.parametrize("ahead", [0.9, SKEW_SECONDS - 1])
def test_the_issuers_clock_may_be_a_little_ahead(keys: KeySet, ahead: float) -> None:
    assert keys.verifier.verify(issuer(keys.key, ahead=ahead).issue(WHO)) == WHO


def test_a_token_from_further_in_the_future_is_refused(keys: KeySet) -> None:
    with pytest.raises(Unauthenticated, match="not valid here"):
        keys.verifier.verify(issuer(keys.key, ahead=SKEW_SECONDS + 5).issue(WHO))


def test_a_token_ends_on_the_second(keys: KeySet) -> None:
    with pytest.raises(Unauthenticated, match="has expired"):
        keys.verifier.verify(issuer(keys.key, ahead=-3601).issue(WHO))
    assert keys.verifier.verify(issuer(keys.key, ahead=-3570).issue(WHO)) == WHO
