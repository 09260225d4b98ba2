"""Messages in parts, joined: the parts stand in the journal, and the whole takes their place when the last has come.

What holds: a part's answer waits for its own commit only; the whole is made from the journal, so a restart, a full disk
or parts that come in any order and on any connection change nothing but the time. Its place among the messages of its
patient is that of the last part.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Awaitable, Callable, Sequence

from hl7bridge import agreements
from hl7bridge.admission import Profiles, address_of, control_id_of, lanes_of, type_of
from hl7bridge.config import Config
from hl7bridge.errors import Hl7BridgeError, JournalError, JournalRefusal, PeerError
from hl7bridge.hl7v2 import continuation
from hl7bridge.hl7v2.header import Header, read_header
from hl7bridge.hl7v2.message import parse
from hl7bridge.journal.fragments import Fragments, Waiting, complete
from hl7bridge.journal.protocol import Entry, Received
from hl7bridge.journal.sqlite import SqliteJournal

LOOK = 5.0  # seconds between looks for what a full disk or a crash kept apart
NO_ANSWER = "none"  # of the whole: each part was answered


class Joining:
    """`run` until cancelled; `came` after each part. `joined` is awaited after a whole was stored, with its parts: one
    that was a dead letter is none any more."""

    def __init__(
        self,
        journal: SqliteJournal,
        config: Config,
        joined: Callable[[Sequence[Entry]], Awaitable[None]],
        trouble: Callable[[str, str], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._journal = journal
        self._fragments = Fragments(journal)
        self._joined, self._trouble, self._clock = joined, trouble, clock
        self._profiles = {listener.name: Profiles(listener) for listener in config.listeners}
        self._stir = asyncio.Event()

    def came(self) -> None:
        """A part was stored."""
        self._stir.set()

    def is_part(self, entry: Entry) -> bool:
        """Is this message a part, and does its sender's profile have parts joined?"""
        profiles = self._profiles.get(entry.listener)
        if entry.lanes or profiles is None:  # a part has no lane
            return False
        try:
            header = read_header(entry.raw)
        except PeerError:
            return False
        if profiles(header, entry.peer).fragments != "join":
            return False
        return continuation.part_of(entry.raw, header) is not None

    async def run(self) -> None:
        while True:
            self._stir.clear()
            try:
                for chain in complete(await self._fragments.waiting()):
                    await self._join(chain)
            except JournalError as error:
                self._trouble("joining", type(error).__name__)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK):
                    await self._stir.wait()

    async def _join(self, chain: Sequence[Waiting]) -> None:
        entries = [await self._journal.get(part.id) for part in chain]
        found = [entry for entry in entries if entry is not None]
        if len(found) < len(chain):
            return
        try:
            whole = self._whole(found)
            await self._fragments.joined(whole, [entry.id for entry in found])
        except (PeerError, JournalRefusal) as error:  # cut where nothing may be cut: each part meets its deadline
            self._trouble("joining", type(error).__name__)
            return
        await self._joined(found)

    def _whole(self, entries: Sequence[Entry]) -> Received:
        first = entries[0]
        header = read_header(first.raw)
        raw = continuation.join([entry.raw for entry in entries], header.separators.field.encode("latin-1"))
        now = self._clock()
        profiles = self._profiles.get(first.listener)
        profile = profiles(header, first.peer) if profiles else None
        return Received(
            raw=raw,
            sha256=hashlib.sha256(raw).digest(),
            received_at=now,
            listener=first.listener,
            peer=first.peer,
            sender=address_of(header),
            control_id=control_id_of(header),
            type=type_of(header),
            lanes=_lanes(raw, header, profile.charset_fallback if profile else None),
            ack=b"",
            ack_code=NO_ANSWER,
            terms=agreements.terms_of_whole(header, profile) if profile else None,
        )


def _lanes(raw: bytes, header: Header, fallback: str | None) -> tuple[str, ...]:
    """None where the whole cannot be read: translating it says why."""
    try:
        return lanes_of(parse(raw, charset_fallback=fallback, header=header))
    except Hl7BridgeError:
        return ()
