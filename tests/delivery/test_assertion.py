"""Keys and signed statements for a token endpoint: what is signed, what is published, what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet, RSAKey

from hl7bridge.delivery.assertion import LIFETIME, Key, Kind, jwks, new_key, read_key, statement
from hl7bridge.errors import ConfigError

NOW = 1_700_000_000.9
PLAIN = serialization.NoEncryption()


def pem(key: Any, encryption: serialization.KeySerializationEncryption = PLAIN) -> str:
    return str(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption).decode())


@pytest.fixture(scope="module", params=["ec", "rsa"])
def key(request: pytest.FixtureRequest) -> Key:
    kind: Kind = request.param
    return read_key(new_key(kind).decode(), "keys.0")


def test_a_statement_is_what_smart_asks_for_and_verifies_by_the_published_key(key: Key) -> None:
    signed = statement(key, "bridge", "https://auth.example/token", NOW, "jti-1")
    found = jwt.decode(signed, KeySet.import_key_set(json.loads(json.dumps(jwks([key])))), algorithms=[key.alg])
    assert found.header == {"alg": key.alg, "kid": key.kid, "typ": "JWT"}
    assert found.claims == {
        "iss": "bridge",
        "sub": "bridge",
        "aud": "https://auth.example/token",
        "exp": 1_700_000_000 + LIFETIME,
        "jti": "jti-1",
    }
    assert LIFETIME <= 300


def test_the_place_of_the_public_keys_is_said_where_the_server_wants_it(key: Key) -> None:
    signed = statement(key, "bridge", "https://auth.example/token", NOW, "1", "https://bridge.example/jwks.json")
    header = jwt.decode(signed, key.private, algorithms=[key.alg]).header
    assert header["jku"] == "https://bridge.example/jwks.json"


def test_nothing_private_is_published_or_printed(key: Key) -> None:
    private = key.private.as_dict(private=True)
    secret_members = {str(private[name]) for name in ("d", "p", "q", "dp", "dq", "qi") if name in private}
    told = json.dumps(jwks([key])) + repr(key) + str(key)
    assert not any(member in told for member in secret_members)
    assert set(key.public) <= {"kty", "crv", "x", "y", "n", "e", "kid", "alg", "use"}


def test_the_kid_is_the_thumbprint_or_the_one_the_jwk_brings() -> None:
    made = ECKey.generate_key("P-384")
    as_pem = read_key(made.as_pem(private=True).decode(), "k")
    assert as_pem.kid == made.thumbprint()
    own = json.dumps(
        made.as_dict(private=True) | {"kid": "north-2026", "use": "sig", "key_ops": ["sign"], "alg": "ES384"}
    )
    as_jwk = read_key(own, "k")
    assert as_jwk.kid == "north-2026"
    assert as_jwk.public["x"] == as_pem.public["x"]


def test_two_keys_with_one_kid_are_refused() -> None:
    key = read_key(new_key("ec").decode(), "k")
    with pytest.raises(ConfigError, match="same kid"):
        jwks([key, key])


EC_256 = ECKey.generate_key("P-256")
EC_384 = ECKey.generate_key("P-384")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "no private key in PEM or JWK"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "no private key in PEM or JWK"),
        (EC_384.as_pem(private=False).decode(), "public key; the private one signs"),
        (json.dumps(EC_384.as_dict(private=False)), "public key; the private one signs"),
        (EC_256.as_pem(private=True).decode(), "RSA key of 2048 bits and more, or an EC key on P-384"),
        (json.dumps(EC_256.as_dict(private=True)), "RSA key of 2048 bits and more, or an EC key on P-384"),
        (pem(rsa.generate_private_key(65537, 1024)), "RSA key of 2048 bits and more, or an EC key on P-384"),
        (pem(ed25519.Ed25519PrivateKey.generate()), "RSA key of 2048 bits and more, or an EC key on P-384"),
        (json.dumps({"kty": "oct", "k": "c2VjcmV0"}), "RSA key of 2048 bits and more, or an EC key on P-384"),
        (json.dumps(EC_384.as_dict(private=True) | {"alg": "ES256"}), "its alg must be ES384"),
        (json.dumps({"kty": "EC", "crv": "P-384", "d": "x"}), "no private key in PEM or JWK"),
        (json.dumps({"kty": "RSA", "d": 5, "n": "!" * 400}), "no private key in PEM or JWK"),
        ("{not json", "no private key in PEM or JWK"),
        (
            pem(ec.generate_private_key(ec.SECP384R1()), serialization.BestAvailableEncryption(b"secret")),
            "the key is encrypted",
        ),
    ],
)
def test_what_is_no_key_for_smart_is_refused_in_words_that_quote_nothing(text: str, said: str) -> None:
    with pytest.raises(ConfigError, match=r"^fhir\.smart\.keys\.3: ") as refused:
        read_key(text, "fhir.smart.keys.3")
    assert said in str(refused.value)
    assert refused.value.__cause__ is None
    for line in text.splitlines():
        assert len(line) < 12 or line not in str(refused.value)


def test_an_old_fashioned_pem_is_read_as_well() -> None:
    key = ec.generate_private_key(ec.SECP384R1())
    text = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, PLAIN)
    assert read_key("\n" + text.decode() + "\n", "k").alg == "ES384"
    assert read_key(RSAKey.generate_key(2048).as_pem(private=True).decode(), "k").alg == "RS384"
