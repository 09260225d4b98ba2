"""What a listener tells whoever watches it: counts and names, never a byte of a payload.

Every method does nothing by default; metrics and logs override what they need. A method that raises is counted by
the server and otherwise ignored: watching must not break receiving.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from hl7bridge.mllp.denial import Denial
from hl7bridge.mllp.framing import Cause
from hl7bridge.mllp.peer import Peer
from hl7bridge.tls.rotation import Ending


class Why(StrEnum):
    """Why the listener ended a connection."""

    IDLE = "idle"  # idle_timeout
    FRAME = "frame"  # frame_timeout: silence inside a block
    TOTAL_FRAME = "total-frame"  # total_frame_timeout: the block never ended
    UNREAD = "unread"  # the peer did not read its answers for frame_timeout
    JUNK = "junk"  # bytes came, but no block began
    TOO_LARGE = "too-large"
    FAILED = "failed"  # an answer could not be made: silence would leave the sender waiting
    DRAIN = "drain"
    HUNG_UP = "hung-up"  # the answer to a failure of storage is, for this sender, the end of the connection
    TRUST = "trust"  # other authorities or revocation lists are in use: whom the old ones let in comes in again


class Observer:
    """See the module's text."""

    def opened(self, peer: Peer) -> None:
        """A connection was taken."""

    def closed(self, peer: Peer) -> None:
        """A connection that was taken is gone, whoever ended it."""

    def denied(self, peer: Peer, denial: Denial) -> None:
        """A connection was not taken. Of its certificate `peer` knows only what could be verified."""

    def probed(self, peer: Peer) -> None:
        """A peer went away in the middle of the TLS handshake, as probes of load balancers do."""

    def starved(self, cause: str) -> None:
        """No connection could be taken for a moment. `cause`: the errno's name, EMFILE or ENFILE as a rule."""

    def rotated(self, paths: Sequence[str]) -> None:
        """Other TLS files are in use from now on."""

    def not_rotated(self, why: str) -> None:
        """Other TLS files are on disk, but unfit; those in use stay in use."""

    def ending(self, ending: Ending) -> None:
        """A TLS file has come within another of `warn_days` of its end, or has ended."""

    def frame(self, peer: Peer, size: int) -> None:
        """A whole block of `size` payload bytes came."""

    def junk(self, peer: Peer, count: int) -> None:
        """`count` bytes outside of any block were dropped."""

    def broken(self, peer: Peer, count: int, cause: Cause) -> None:
        """A block of `count` bytes was no message."""

    def too_large(self, peer: Peer) -> None:
        """A block went past max_message_bytes."""

    def dropped(self, peer: Peer, why: Why) -> None:
        """The listener ends this connection."""

    def failed(self, peer: Peer, error: BaseException) -> None:
        """The handler raised: a defect of the bridge. The error's type is safe to log, its text need not be."""

    def unanswered(self, peer: Peer, count: int) -> None:
        """`count` blocks got no answer because the connection was gone first; what was committed stays committed."""
