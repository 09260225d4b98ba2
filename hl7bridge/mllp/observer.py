"""What a listener tells whoever watches it: counts and names, never a byte of a payload.

Every method does nothing by default; metrics and logs override what they need. A method that raises is counted by
the server and otherwise ignored: watching must not break receiving.
"""

from __future__ import annotations

from enum import StrEnum

from hl7bridge.mllp.framing import Cause
from hl7bridge.mllp.peer import Peer


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


class Observer:
    """See the module's text."""

    def opened(self, peer: Peer) -> None:
        """A connection was taken."""

    def closed(self, peer: Peer) -> None:
        """A connection that was taken is gone, whoever ended it."""

    def refused(self, peer: Peer) -> None:
        """A connection was not taken: max_connections are open."""

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
