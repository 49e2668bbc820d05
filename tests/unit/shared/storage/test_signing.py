"""Signed URLs of the folder store."""

from datetime import timedelta
from urllib.parse import parse_qsl, unquote, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Forbidden
from shared.storage.signing import Grant, UrlSigner, attachment

MINUTE = timedelta(minutes=1)
GRANTS = [
    Grant("get", "studies", "t/s/results/mask.nii.gz"),
    Grant("get", "studies", "t/s/results/ré port+%2F.pdf", filename="a&b=c.pdf"),
    Grant("part", "incoming", "t/u/volume.nii", upload_id="ab" * 16, number=17),
]


class Clock:
    """A clock that moves when told to."""

    now = 1_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def signer(clock: Clock) -> UrlSigner:
    return UrlSigner(b"secret", clock)


def taken_apart(url: str) -> tuple[str, str, dict[str, str]]:
    """Bucket, key and query as the HTTP route sees them."""
    parts = urlsplit(url)
    bucket, _, key = unquote(parts.path).removeprefix("/api/storage/").partition("/")
    return bucket, key, dict(parse_qsl(parts.query, keep_blank_values=True))


@pytest.mark.parametrize("grant", GRANTS, ids=lambda grant: grant.key)
def test_a_signed_url_gives_back_what_was_granted(signer: UrlSigner, grant: Grant) -> None:
    assert signer.verify(grant.method, *taken_apart(signer.sign(grant, MINUTE))) == grant


def test_it_holds_until_its_last_second(signer: UrlSigner, clock: Clock) -> None:
    request = taken_apart(signer.sign(GRANTS[0], MINUTE))
    clock.now += 59.9
    signer.verify("GET", *request)
    clock.now += 0.1
    with pytest.raises(Forbidden, match="expired"):
        signer.verify("GET", *request)


@pytest.mark.parametrize("grant", GRANTS, ids=lambda grant: grant.key)
def test_no_parameter_can_be_changed_added_or_left_out(signer: UrlSigner, grant: Grant) -> None:
    bucket, key, query = taken_apart(signer.sign(grant, MINUTE))
    changed = [query | {name: value + "0"} for name, value in query.items()]
    shorter = [{name: value for name, value in query.items() if name != left_out} for left_out in query]
    for forged in [*changed, *shorter, query | {"also": ""}, query | {"signature": "ünicode"}, {}]:
        with pytest.raises(Forbidden, match="altered"):
            signer.verify(grant.method, bucket, key, forged)


def test_it_is_bound_to_its_bucket_key_and_method(signer: UrlSigner) -> None:
    bucket, key, query = taken_apart(signer.sign(GRANTS[0], MINUTE))
    for method, other_bucket, other_key in [
        ("GET", "models", key),
        ("GET", bucket, key + "x"),
        ("GET", bucket, ""),
        ("PUT", bucket, key),
        ("HEAD", bucket, key),
    ]:
        with pytest.raises(Forbidden, match="altered"):
            signer.verify(method, other_bucket, other_key, query)


def test_another_secret_signs_differently(clock: Clock, signer: UrlSigner) -> None:
    request = taken_apart(UrlSigner(b"other", clock).sign(GRANTS[0], MINUTE))
    with pytest.raises(Forbidden):
        signer.verify("GET", *request)


def test_urls_outlive_a_rotation_of_the_secret(clock: Clock) -> None:
    secrets = [b"old"]
    signer = UrlSigner(lambda: secrets, clock)
    before = taken_apart(signer.sign(GRANTS[0], MINUTE))
    secrets.insert(0, b"new")
    after = taken_apart(signer.sign(GRANTS[0], MINUTE))
    assert signer.verify("GET", *before) == signer.verify("GET", *after) == GRANTS[0]
    assert UrlSigner(b"new", clock).verify("GET", *after) == GRANTS[0]
    secrets.remove(b"old")
    with pytest.raises(Forbidden):
        signer.verify("GET", *before)


def test_an_empty_secret_is_refused() -> None:
    with pytest.raises(ValueError, match="not empty"):
        UrlSigner(b"")


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_file_name_cannot_break_out_of_its_header(filename: str) -> None:
    header = attachment(filename)
    assert header.isascii()
    assert not set('\r\n";') & set(header.removeprefix("attachment; "))
    assert unquote(header.split("''", 1)[1]) == filename
