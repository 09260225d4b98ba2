"""Why a connection was not taken before a byte of a message could come, from what the handshake raised.

The words are labels of a metric and stand in logs and the audit; what OpenSSL says beside them is never shown, since it
may quote what the other side sent. Codes of verification: OpenSSL's x509_vfy.h.
"""

from __future__ import annotations

import ssl
from enum import StrEnum
from typing import Final


class Denial(StrEnum):
    """The cause, and in `told` a sentence for who has to act on it."""

    FULL = "full"
    ADDRESS = "address"
    NO_CERTIFICATE = "no-certificate"
    EXPIRED = "expired"
    NOT_YET_VALID = "not-yet-valid"
    AUTHORITY = "unknown-authority"
    PURPOSE = "wrong-purpose"
    REVOKED = "revoked"
    REVOCATION_LIST = "revocation-list"
    CERTIFICATE = "bad-certificate"
    NOT_LISTED = "not-listed"
    VERSION = "tls-version"
    CIPHER = "no-common-cipher"
    NOT_TLS = "no-tls"
    DISTRUST = "refused-by-peer"
    STALLED = "stalled"
    HANDSHAKE = "handshake"

    @property
    def told(self) -> str:
        return _TOLD[self]

    @property
    def of_node(self) -> bool:
        """Is it the peer that is not who may connect? These are audited (IHE ATNA: node authentication failure)."""
        return self in _OF_NODE


_TOLD: Final = {
    Denial.FULL: "max_connections are open",
    Denial.ADDRESS: "its address is not in `allow` of the listener",
    Denial.NO_CERTIFICATE: "it shows no certificate, and the listener demands one",
    Denial.EXPIRED: "its certificate has ended",
    Denial.NOT_YET_VALID: "its certificate is not valid yet, or a clock is wrong",
    Denial.AUTHORITY: "no authority in `tls.ca` vouches for its certificate, or one of its chain is missing",
    Denial.PURPOSE: "its certificate is not made for clients (extended key usage)",
    Denial.REVOKED: "its certificate is revoked",
    Denial.REVOCATION_LIST: "the list in `tls.revoked` has run out, or is not of the certificate's authority",
    Denial.CERTIFICATE: "its certificate does not verify (too weak a key or signature, or malformed)",
    Denial.NOT_LISTED: "no item of `tls.clients` fits its certificate (a common name counts only without other names)",
    Denial.VERSION: "it speaks only TLS versions below the listener's minimum",
    Denial.CIPHER: "it offers no cipher, curve or signature that is taken here",
    Denial.NOT_TLS: "it does not speak TLS",
    Denial.DISTRUST: "it refused us in the handshake: it may not trust our certificate or know our name by it",
    Denial.STALLED: "its handshake did not end in time",
    Denial.HANDSHAKE: "its handshake failed",
}
_OF_NODE: Final = frozenset(
    {
        Denial.ADDRESS,
        Denial.NO_CERTIFICATE,
        Denial.EXPIRED,
        Denial.NOT_YET_VALID,
        Denial.AUTHORITY,
        Denial.PURPOSE,
        Denial.REVOKED,
        Denial.REVOCATION_LIST,
        Denial.CERTIFICATE,
        Denial.NOT_LISTED,
    }
)
_BY_VERIFY_CODE: Final = {
    **dict.fromkeys((2, 18, 19, 20, 21, 22, 24, 25, 27, 28, 29, 30, 31, 32), Denial.AUTHORITY),
    **dict.fromkeys((3, 11, 12, 15, 16, 33, 35, 44), Denial.REVOCATION_LIST),
    9: Denial.NOT_YET_VALID,
    10: Denial.EXPIRED,
    23: Denial.REVOKED,
    26: Denial.PURPOSE,
}
_BY_REASON: Final = {
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": Denial.NO_CERTIFICATE,
    "UNSUPPORTED_PROTOCOL": Denial.VERSION,
    "VERSION_TOO_LOW": Denial.VERSION,
    "NO_PROTOCOLS_AVAILABLE": Denial.VERSION,
    "INAPPROPRIATE_FALLBACK": Denial.VERSION,
    "NO_SHARED_CIPHER": Denial.CIPHER,
    "NO_SHARED_GROUP": Denial.CIPHER,
    "NO_SHARED_GROUPS": Denial.CIPHER,
    "NO_SUITABLE_KEY_SHARE": Denial.CIPHER,
    "NO_SUITABLE_SIGNATURE_ALGORITHM": Denial.CIPHER,
    "NO_SHARED_SIGNATURE_ALGORITHMS": Denial.CIPHER,
    "HTTP_REQUEST": Denial.NOT_TLS,
    "HTTPS_PROXY_REQUEST": Denial.NOT_TLS,
    "WRONG_VERSION_NUMBER": Denial.NOT_TLS,
    "BAD_RECORD_TYPE": Denial.NOT_TLS,
    "PACKET_LENGTH_TOO_LONG": Denial.NOT_TLS,
    "UNKNOWN_PROTOCOL": Denial.NOT_TLS,
}


def denial_of(error: BaseException) -> Denial | None:
    """The cause of a failed handshake; None: the peer went away, as probes of load balancers do."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _BY_VERIFY_CODE.get(error.verify_code, Denial.CERTIFICATE)
    if isinstance(error, (ssl.SSLEOFError, ssl.SSLZeroReturnError)):
        return None
    if isinstance(error, ssl.SSLError):
        reason = error.reason or ""
        if "_ALERT_" in reason:
            # a client of one version below ours says this before it ever sees our certificate
            return Denial.VERSION if reason.endswith("PROTOCOL_VERSION") else Denial.DISTRUST
        return _BY_REASON.get(reason, Denial.HANDSHAKE)
    # asyncio's own deadline; a peer that resets is a ConnectionResetError
    return Denial.STALLED if isinstance(error, (ConnectionAbortedError, TimeoutError)) else None
