"""Who was not let in, and who spoke for another: one line and one audit entry at first, then a sum now and then.

What holds:
  - The first of a kind (listener, cause, peer) is told at once; whatever follows within QUIET seconds is counted and
    told as one. Nothing is left out of the sums, and no scanner can fill the log or the journal.
  - A failure of node authentication goes to the audit (IHE ATNA, DICOM 110113/110126) as well, with the address and the
    certificate's name and fingerprint. MSH-3 and MSH-4 of a message that spoke for another stand in the audit only.
  - An entry the journal cannot take is told in the log; it never holds up a connection.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from hl7bridge.errors import JournalError
from hl7bridge.mllp.denial import Denial
from hl7bridge.mllp.peer import Peer
from hl7bridge.observe.log import Log, told

QUIET: Final = 60.0  # seconds
MOST_KINDS: Final = 1_000  # told apart at once; those beyond share one kind for each listener and cause
MOST_CLAIMED: Final = 100  # characters of MSH-3 and MSH-4 in the audit

Audit = Callable[[str, str, str, str], Awaitable[None]]  # actor, action, subject, detail


@dataclass(frozen=True, slots=True)
class _Kind:
    """What is told as one."""

    event: str  # the line of the log
    action: str  # of the audit; "" for what is not audited
    listener: str
    cause: str
    told: str
    peer: str
    fingerprint: str
    claimed: str = ""


@dataclass(slots=True)
class _Repeats:
    since: float
    count: int = 0  # beyond what was told


class Strangers:
    """`audit` is set once the journal is open, `run` runs until cancelled, `close` tells what is still untold."""

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic) -> None:
        self.audit: Audit | None = None
        self._log = log
        self._clock = clock
        self._known: dict[_Kind, _Repeats] = {}
        self._due: list[tuple[_Kind, int]] = []  # entries of the audit that are to be written
        self._news = asyncio.Event()

    def denied(self, listener: str, peer: Peer, denial: Denial) -> None:
        """A connection was not taken."""
        action = "refuse connection" if denial.of_node else ""
        name = peer.address if peer.name == peer.address else f"{peer.address} ({peer.name})"
        self._note(_Kind("connection refused", action, listener, denial.value, denial.told, name, peer.fingerprint))

    def impostor(self, listener: str, peer: Peer, sender: str) -> None:
        """A message came in the name of a sender that its certificate does not speak for. `sender`: MSH-3|MSH-4."""
        event = "message refused: its certificate does not speak for this sender"
        name = f"{peer.address} ({peer.name})" if peer.certificate else peer.address
        claimed = sender[:MOST_CLAIMED]
        self._note(_Kind(event, "refuse sender", listener, "sender-not-allowed", "", name, peer.fingerprint, claimed))

    def _note(self, kind: _Kind) -> None:
        repeats = self._known.get(kind)
        if repeats is None and len(self._known) >= MOST_KINDS:
            kind = _Kind(kind.event, kind.action, kind.listener, kind.cause, kind.told, "several", "")
            repeats = self._known.get(kind)
        if repeats is None:
            self._known[kind] = _Repeats(self._clock())
            self._say(kind, 1)
        else:
            repeats.count += 1

    def _say(self, kind: _Kind, count: int) -> None:
        self._log.warning(
            kind.event,
            listener=kind.listener,
            peer=kind.peer,
            detail=f"{kind.cause}: {kind.told}" if kind.told else kind.cause,
            count=count,
            **({"fingerprint": kind.fingerprint} if kind.fingerprint else {}),
        )
        if kind.action:
            self._due.append((kind, count))
            self._news.set()

    async def run(self) -> None:
        """Writes the audit, and tells sums."""
        while True:
            try:
                async with asyncio.timeout(QUIET / 4):
                    await self._news.wait()
            except TimeoutError:
                self._sum_up(self._clock() - QUIET)
            await self._write()

    async def close(self) -> None:
        """Tells every sum, and writes what is due."""
        self._sum_up(self._clock())
        await self._write()

    def _sum_up(self, before: float) -> None:
        for kind, repeats in [(kind, repeats) for kind, repeats in self._known.items() if repeats.since <= before]:
            del self._known[kind]
            if repeats.count:
                self._known[kind] = _Repeats(self._clock())
                self._say(kind, repeats.count)

    async def _write(self) -> None:
        self._news.clear()
        if self.audit is None:
            return
        due, self._due = self._due, []
        for kind, count in due:
            parts = [kind.cause, f"from {kind.peer}"]
            parts += [f"certificate {kind.fingerprint}"] if kind.fingerprint else []
            parts += [f"as {kind.claimed}"] if kind.claimed else []
            parts += [f"{count} times"] if count > 1 else []
            try:
                await self.audit(kind.peer, kind.action, f"listener {kind.listener}", "; ".join(parts))
            except JournalError as error:
                self._log.error("an entry of the audit is missing", **told(error))
