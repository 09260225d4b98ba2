"""One receiver of application acknowledgements: a connection, a circuit, one acknowledgement at a time.

What holds and why:
- An acknowledgement is settled only by an answer to its own control id; without one the same bytes are sent again, so
  its receiver can tell the second from a new one.
- One that is answered with an error waits and lets the next go first; a receiver that is away opens the circuit and
  nobody pays for that but time.
- TLS files that change on disk are taken into use with the next acknowledgement, over a new connection; unfit ones are
  told, and those from before stay in use.
- Given up is what was tried for `give_up_after` seconds, or was refused for good. That is told: nothing ends silently.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hl7bridge.config import ApplicationAcks, Retry
from hl7bridge.delivery.retry import Circuit, CircuitState, Schedule
from hl7bridge.delivery.shipment import EndpointObserver
from hl7bridge.delivery.tls import Contexts
from hl7bridge.errors import ConfigError, JournalError, UnavailableError
from hl7bridge.journal.acknowledgements import Acknowledgement, Acknowledgements
from hl7bridge.mllp.client import MllpClient, NoAnswer, NotSent
from hl7bridge.replies.judgement import Verdict, judged

if TYPE_CHECKING:
    from hl7bridge.replies.replies import Observer

DAMAGED = "damaged in the journal"
LOOK = 1.0  # seconds between looks for what is due


class Channel:
    """Sends what is due on the channel `name` until cancelled. `tls_observer` is told of its TLS files.

    Raises ConfigError for TLS files that are unusable to begin with.
    """

    def __init__(
        self,
        name: str,
        keys: ApplicationAcks,
        retry: Retry,
        rows: Acknowledgements,
        observer: Observer,
        *,
        tls_observer: EndpointObserver | None = None,
        clock: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.name = name
        self._keys = keys
        self._rows = rows
        self._observer = observer
        self._clock = clock
        self._chance = chance
        self._schedule = Schedule(retry.first, retry.cap)
        self.circuit = Circuit(retry.circuit_after, retry.circuit_probe, retry.cap, self._circuit_changed)
        self._contexts = _contexts(name, keys, tls_observer) if keys.tls else None
        self._tls = self._contexts.current() if self._contexts else None
        self._client = self._made()
        self._stir = asyncio.Event()

    def wake(self) -> None:
        """Something is due."""
        self._stir.set()

    async def run(self) -> None:
        try:
            while True:
                self._stir.clear()
                if not await self._round():
                    with contextlib.suppress(TimeoutError):
                        async with asyncio.timeout(self._rest()):
                            await self._stir.wait()
        finally:
            await self._client.close()

    async def _round(self) -> bool:
        """Sends what is due, until the circuit opens. False: there is nothing more to do now."""
        try:
            rows = await self._rows.due(self.name, self._clock())
            for row in rows:
                permit = self.circuit.permit(time.monotonic())
                if permit is None:
                    return False
                try:
                    await self._one(row)
                    self.circuit.passed(permit)
                except (NotSent, NoAnswer) as error:
                    self.circuit.failed(permit, time.monotonic(), type(error).__name__)
                    await self._again(row, _why(error))
                finally:
                    self.circuit.returned(permit)
        except JournalError as error:
            self._observer.trouble(self.name, type(error).__name__)
            return False
        return bool(rows)

    def _made(self) -> MllpClient:
        return MllpClient(self._keys.host, self._keys.port, self._tls, timeout=self._keys.timeout)

    async def _with_present_files(self) -> None:
        """Between two acknowledgements nothing is under way: a connection that was made with other files can end."""
        now = self._contexts.current() if self._contexts else None
        if now is not self._tls:
            self._tls = now
            await self._client.close()
            self._client = self._made()

    async def _one(self, row: Acknowledgement) -> None:
        if row.damaged:
            await self.give_up(row, DAMAGED)
            return
        await self._with_present_files()
        if self._keys.accept_ack == "NE":
            await self._client.post(row.raw)
            await self._settle(row, "sent", "not answered by agreement (MSH-15 NE)")
            return
        reply = await self._client.send(row.raw)
        verdict, code = judged(reply.ack_code), _known(reply.ack_code)
        if verdict is Verdict.TAKEN:
            await self._settle(row, "sent", f"answered {code}")
        elif verdict is Verdict.REFUSED:
            await self.give_up(row, f"refused with {code}")
        else:
            await self._again(row, f"answered {code}")

    async def _again(self, row: Acknowledgement, why: str) -> None:
        now = self._clock()
        if now - row.due_at >= self._keys.give_up_after:
            await self.give_up(row, f"after {row.attempts + 1} attempts, the last: {why}")
            return
        pause = self._schedule.pause(row.attempts + 1, self._chance())
        await self._rows.again(row.number, now + pause, why)
        self._observer.put_off(self.name, row.code, why, row.attempts + 1)

    async def give_up(self, row: Acknowledgement, why: str) -> None:
        """It will never be sent, and that is told."""
        await self._settle(row, "given-up", why)

    async def _settle(self, row: Acknowledgement, state: str, detail: str) -> None:
        await self._rows.settle(row.number, state, detail, self._clock())
        self._observer.settled(self.name, row.code, state, row.message_id, detail)

    def _rest(self) -> float:
        if self.circuit.state is CircuitState.OPEN:
            now = time.monotonic()
            return max(self.circuit.probe_at(now) - now, 0.01)
        return LOOK

    def _circuit_changed(self, state: CircuitState, why: str) -> None:
        self._observer.circuit(self.name, state.value, why)


def _contexts(name: str, keys: ApplicationAcks, observer: EndpointObserver | None) -> Contexts:
    try:
        return Contexts(keys.tls, f"listeners.{name}.application_acks.tls", observer)
    except UnavailableError as error:
        raise ConfigError([str(error)]) from None


def _known(code: bytes) -> str:
    """A code of table 0008 for people; anything else could be a value."""
    return code.decode() if code in (b"AA", b"AE", b"AR", b"CA", b"CE", b"CR") else "an unknown code"


def _why(error: NotSent | NoAnswer) -> str:
    return "no connection" if isinstance(error, NotSent) else "no answer"
