"""Keys, and the signed statement by which we say who we are to a token endpoint. Sans-IO.

SMART App Launch 2.2, "Backend Services" and "Client Authentication: Asymmetric": a JWT (RFC 7519) signed RS384 or
ES384, `kid` in its header; iss and sub the client id, aud the token endpoint, exp at most five minutes ahead, jti never
twice.

What holds: a key is never printed; what is published is built from a list of public members (RFC 7517), so that a
private one cannot slip in. The first key signs, all are published, so that keys change without a gap:
publish the new one, wait until the server has read it, put it first, remove the old one.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, RSAKey

from hl7bridge.errors import ConfigError

LIFETIME = 240  # seconds; SMART allows 300, and the server's clock may be behind ours
RSA_BITS = 3072  # of a new key
RSA_LEAST = 2048
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"  # RFC 7523, 2.2
PUBLIC = ("kty", "crv", "x", "y", "n", "e")  # RFC 7518, 6.2.1 and 6.3.1

Kind = Literal["ec", "rsa"]


@dataclass(frozen=True, slots=True)
class Key:
    """A private key. `kid`: its own where it came as a JWK that has one, else its thumbprint (RFC 7638)."""

    kid: str
    alg: Literal["RS384", "ES384"]
    private: RSAKey | ECKey = field(repr=False)

    @property
    def public(self) -> dict[str, str]:
        """As a JWK, for the server."""
        members = self.private.as_dict(private=False)
        return {name: str(members[name]) for name in PUBLIC if name in members} | {
            "kid": self.kid,
            "alg": self.alg,
            "use": "sig",
        }


def read_key(text: str, place: str) -> Key:
    """A key from PEM or a JWK. `place`: how the configuration calls it. Raises ConfigError, without the content."""
    text = text.strip()
    wanted = "an RSA key of 2048 bits and more, or an EC key on P-384"
    if text.startswith("{"):
        return _from_jwk(text, place, wanted)
    try:
        loaded = load_pem_private_key(text.encode(), None)
    except TypeError:
        raise ConfigError([f"{place}: the key is encrypted; hl7bridge reads it without a password"]) from None
    except (ValueError, UnsupportedAlgorithm):
        told = "is a public key; the private one signs" if "PUBLIC KEY" in text else "is no private key in PEM or JWK"
        raise ConfigError([f"{place}: {told}"]) from None
    if isinstance(loaded, RSAPrivateKey) and loaded.key_size >= RSA_LEAST:
        return _checked(RSAKey.import_key(loaded), place, wanted)
    if isinstance(loaded, EllipticCurvePrivateKey):
        return _checked(ECKey.import_key(loaded), place, wanted)
    raise ConfigError([f"{place}: must be {wanted}"])


def _from_jwk(text: str, place: str, wanted: str) -> Key:
    try:
        members = json.loads(text)
    except ValueError:
        raise ConfigError([f"{place}: is no private key in PEM or JWK"]) from None
    kinds: dict[str, type[RSAKey] | type[ECKey]] = {"RSA": RSAKey, "EC": ECKey}
    kind = kinds.get(str(members.get("kty")))
    if kind is None:
        raise ConfigError([f"{place}: must be {wanted}"])
    if "d" not in members:
        raise ConfigError([f"{place}: is a public key; the private one signs"])
    if kind is RSAKey and len(str(members.get("n"))) * 6 < RSA_LEAST:  # base64url: six bits a character
        raise ConfigError([f"{place}: must be {wanted}"])
    try:
        key = kind.import_key({name: members[name] for name in members if name not in ("use", "key_ops", "alg")})
    except (JoseError, ValueError, TypeError, KeyError):
        raise ConfigError([f"{place}: is no private key in PEM or JWK"]) from None
    found = _checked(key, place, wanted)
    if members.get("alg", found.alg) != found.alg:
        raise ConfigError([f"{place}: its alg must be {found.alg}: SMART signs RS384 or ES384"])
    return found


def _checked(key: RSAKey | ECKey, place: str, wanted: str) -> Key:
    kid = key.kid or key.thumbprint()
    if isinstance(key, RSAKey):
        return Key(kid, "RS384", key)
    if key.curve_name != "P-384":
        raise ConfigError([f"{place}: must be {wanted}"])
    return Key(kid, "ES384", key)


def jwks(keys: Sequence[Key]) -> dict[str, Any]:
    """What is published (RFC 7517, 5). Raises ConfigError when two keys have one kid."""
    if len({key.kid for key in keys}) < len(keys):
        raise ConfigError(["fhir.smart.keys: two keys have the same kid"])
    return {"keys": [key.public for key in keys]}


def statement(key: Key, client_id: str, audience: str, now: float, jti: str, jku: str | None = None) -> str:
    """The signed statement. `now`: the token endpoint's time, seconds since the epoch."""
    header = {"alg": key.alg, "kid": key.kid, "typ": "JWT"} | ({"jku": jku} if jku else {})
    claims = {"iss": client_id, "sub": client_id, "aud": audience, "exp": int(now) + LIFETIME, "jti": jti}
    return jwt.encode(header, claims, key.private, algorithms=[key.alg])


def new_key(kind: Kind) -> bytes:
    """A new private key as PEM (PKCS #8)."""
    key = RSAKey.generate_key(RSA_BITS) if kind == "rsa" else ECKey.generate_key("P-384")
    return key.as_pem(private=True)
