"""The chaos: a plan made from a seed, carried out against a running daemon, and the evidence that comes of it.

What holds:
- The plan (what happens, how long, in which order) depends on the seed alone; when exactly it hits the daemon depends
  on the machine. A seed repeats a run as far as processes can be repeated.
- A kill comes when deliveries are under way since the last start, never before: a daemon that is killed while it loads
  its tables proves little.
- The end is calm: everything is mended, every message that was begun is sent until it is answered, and the journal has
  worked off everything. Only then is judged.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from chaos_daemon import ChaosDaemon
from chaos_endpoint import MANNERS, MOODS, ScriptedEndpoint
from chaos_feed import Message, real, synthetic
from chaos_judge import Evidence, judge, owed
from chaos_receiver import MANNERS as RECEIVED
from chaos_receiver import Receiver
from chaos_senders import Sender

SENDERS = 4
BACKLOG = 150  # acknowledged and not yet at the endpoint: senders rest, so that deliveries are always under way
SMALL_DISK = "48m"
SETTLES_WITHIN = 120.0  # seconds without any progress
UNDER_WAY_WITHIN = 40.0
REAL_MESSAGES = 4000  # of a real feed at most, so that a run ends
# what may happen to the process, how often, and between which seconds it lasts or is let alone afterwards; a kill or an
# end: between how many requests to the endpoint since the last one
EVENTS: dict[str, tuple[int, float, float]] = {
    "kill": (10, 1.0, 80.0),
    "term": (3, 1.0, 80.0),
    "pause": (4, 0.1, 3.0),
    "kill a translator": (2, 0.0, 0.5),
    "reload": (1, 0.0, 0.5),
    "fill the disk": (3, 0.5, 4.0),
    "calm": (1, 0.5, 2.0),
}
DISK_EVENT = "fill the disk"


@dataclass(frozen=True)
class Setting:
    """What a run is made with. `seconds` of chaos; `feed`: a file of real messages, or None; `broken`: a mutation."""

    seed: str
    seconds: float
    folder: Path
    ports: tuple[int, int, int]
    feed: Path | None = None
    broken: str = ""
    say: Callable[[str], None] = print


@dataclass
class Result:
    """What came of a run: breaches (none: all held) and the figures of its table."""

    breaches: list[str]
    figures: dict[str, int | str]
    events: Counter[str] = field(default_factory=Counter)

    def table(self) -> str:
        rows = [*self.figures.items(), *((f"event: {name}", count) for name, count in sorted(self.events.items()))]
        width = max(len(name) for name, _ in rows)
        return "\n".join(f"  {name:<{width}}  {value}" for name, value in rows)


def plan(seed: str) -> Iterator[tuple[str, float]]:
    """The endless list of what happens to the process: an event and its seconds."""
    choose = random.Random(f"{seed} plan")
    while True:
        event = choose.choices(list(EVENTS), [often for often, _, _ in EVENTS.values()])[0]
        yield event, choose.uniform(*EVENTS[event][1:])


def moods(seed: str) -> Iterator[tuple[str, float]]:
    """The endless list of the endpoint's moods: half the time it mostly works, so that there is something to lose."""
    choose = random.Random(f"{seed} moods")
    while True:
        yield "ok", choose.uniform(0.5, 2)
        yield "mixed", choose.uniform(2, 6)
        yield choose.choice(MOODS), choose.uniform(0.3, 2.0)


class SmallDisk:
    """A file system of its own for journal and dead letters, where one can be mounted; else nothing can be filled."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.ballast = place / "ballast"
        place.mkdir(parents=True, exist_ok=True)
        mount = ["mount", "-t", "tmpfs", "-o", f"size={SMALL_DISK}", "tmpfs", str(place)]
        self.mounted = False
        with suppress(OSError):
            self.mounted = subprocess.run(mount, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """Until not a byte more goes in."""
        with self.ballast.open("ab", buffering=0) as file:
            for size in (1 << 20, 1 << 12, 1):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def free(self) -> None:
        self.ballast.unlink(missing_ok=True)

    def close(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.place)], capture_output=True, check=False)


class Run:
    """One run. `carry_out` gives its result."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.disk = SmallDisk(setting.folder / "state")
        self.endpoint = ScriptedEndpoint(setting.seed)
        self.receiver = Receiver(setting.seed)
        self.events: Counter[str] = Counter()
        self.began = time.monotonic()
        self.senders: list[Sender] = []
        self._read = 0  # deliveries looked at
        self._settled: set[str] = set()

    async def carry_out(self) -> Result:
        setting = self.setting
        await self.endpoint.start()
        await self.receiver.start()
        where = setting.folder / "state"
        self.daemon = ChaosDaemon(
            setting.folder,
            where,
            setting.ports,
            (self.endpoint.base_url, self.receiver.port),
            setting.seed,
            setting.broken,
        )
        self.senders = self._senders()
        try:
            await self.daemon.start()
            await self._chaos()
            await self._calm()
            evidence = await self._evidence()
        finally:
            if self.daemon.alive:
                self.daemon.signal(signal.SIGCONT)
                await self.daemon.end(signal.SIGTERM)
            await self.endpoint.stop()
            await self.receiver.stop()
            self.disk.close()
        evidence.log = await asyncio.to_thread(self.daemon.log.read_text, errors="replace")
        return Result(judge(evidence), self._figures(evidence), self.events)

    def _senders(self) -> list[Sender]:
        seed, (plain, enhanced, _) = self.setting.seed, self.setting.ports
        feeds = [
            (f"S{n}", enhanced if n % 3 == 0 else plain, synthetic(f"S{n}", seed, enhanced=n % 3 == 0))
            for n in range(SENDERS)
        ]
        if self.setting.feed is not None:
            shares = real(self.setting.feed, 2, REAL_MESSAGES)
            feeds += [(f"R{n}", plain, iter(share)) for n, share in enumerate(shares)]
        return [Sender(name, port, feed, seed, self._pause) for name, port, feed in feeds]

    def _positive(self) -> int:
        return sum(len(sender.positive) for sender in self.senders)

    def _pause(self) -> float:
        """Seconds a sender rests: none while few acknowledged messages are not at the endpoint yet, and never for long.

        One in twenty never gets there: dead letters.
        """
        deliveries = self.endpoint.deliveries
        self._settled.update(delivery.request_id for delivery in deliveries[self._read :])
        self._read = len(deliveries)
        behind = self._positive() * 0.95 - len(self._settled)
        return 0.0 if behind < BACKLOG else 0.5 if behind < 3 * BACKLOG else 3.0

    # ---- the chaos ----

    async def _chaos(self) -> None:
        stop = asyncio.Event()
        tasks = [asyncio.create_task(sender.run(stop)) for sender in self.senders]
        tasks += [asyncio.create_task(self._flap(stop)), asyncio.create_task(self._report(stop))]
        until = time.monotonic() + self.setting.seconds
        try:
            for event, seconds in plan(self.setting.seed):
                if time.monotonic() >= until:
                    break
                for task in tasks:
                    if task.done():
                        task.result()
                await self._happen(event, seconds)
        finally:
            stop.set()
            self.disk.free()
            self.daemon.hard = False
            await asyncio.gather(*tasks)
            await self.endpoint.be("ok")
            self.receiver.calm = True
            await self.receiver.start()

    async def _happen(self, event: str, seconds: float) -> None:
        daemon = self.daemon
        if event == DISK_EVENT and not self.disk.mounted:
            return
        self.events[event] += 1
        if event in ("kill", "term"):
            await self._under_way(round(seconds))
            await self._still_there()
            await daemon.end(signal.SIGKILL if event == "kill" else signal.SIGTERM)
            await daemon.start()
        elif event == "pause":
            daemon.signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            daemon.signal(signal.SIGCONT)
        elif event == "kill a translator":
            daemon.kill_a_translator(seconds / EVENTS[event][2])
            await asyncio.sleep(seconds)
        elif event == "reload":
            daemon.signal(signal.SIGHUP)
            await asyncio.sleep(seconds)
        elif event == DISK_EVENT:
            await self._full_disk(seconds)
        else:
            await asyncio.sleep(seconds)
        await self._still_there()

    async def _full_disk(self, seconds: float) -> None:
        """Every second time the daemon is killed while the disk is full, and starts before there is space again."""
        self.daemon.hard = True
        self.disk.fill()
        await asyncio.sleep(seconds)
        if self.events[DISK_EVENT] % 2 == 0:
            self.events["kill while the disk is full"] += 1
            await self.daemon.end(signal.SIGKILL)
            self.disk.fill()
            starting = asyncio.create_task(self.daemon.start())
            await asyncio.sleep(1.0)
            self.disk.free()
            await starting
        self.disk.free()
        await self._still_there()
        self.daemon.hard = False

    async def _still_there(self) -> None:
        """What ended by itself is counted, and started again."""
        if not self.daemon.alive:
            self.daemon.ended_by_itself += 1
            await self.daemon.start()

    async def _under_way(self, requests: int) -> None:
        """Until the endpoint has been asked that often since the last start; one that refuses is not waited for long."""
        before, until = self.endpoint.requests, time.monotonic() + UNDER_WAY_WITHIN
        while self.endpoint.requests < before + requests and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        self.events["of kills and ends, with deliveries under way"] += self.endpoint.requests > before

    async def _flap(self, stop: asyncio.Event) -> None:
        for mood, seconds in moods(self.setting.seed):
            await self.endpoint.be(mood)
            await (self.receiver.stop() if mood == "refuse" else self.receiver.start())
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), seconds)
            if stop.is_set():
                return

    async def _report(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), 30)
            self.setting.say(self._line())

    def _line(self) -> str:
        seconds = time.monotonic() - self.began
        sent = sum(len(sender.sent) for sender in self.senders)
        return (
            f"{seconds:6.0f} s: {self.events['kill']} kills, {self.events['term']} ends, {self.daemon.starts} starts,"
            f" {sent} messages sent, {self._positive()} acknowledged, {len(self.endpoint.deliveries)} applied"
            f" ({self.endpoint.requests} requests)"
        )

    # ---- the end ----

    async def _calm(self) -> None:
        """Everything is sent until it is answered, and worked off; what makes no progress is judged as it is then."""
        with suppress(TimeoutError):
            async with asyncio.timeout(SETTLES_WITHIN):
                await asyncio.gather(*(sender.finish() for sender in self.senders))
        least, until = sys.maxsize, time.monotonic() + SETTLES_WITHIN
        while time.monotonic() < until:
            waiting = len(await self.daemon.messages("--state", "received", "--state", "waiting"))
            if not waiting:
                break
            if waiting < least:
                least, until = waiting, time.monotonic() + SETTLES_WITHIN
            await asyncio.sleep(1)
        await self._acknowledged()

    async def _acknowledged(self) -> None:
        """Until everybody who asked for an application ACK has it; what makes no progress is judged as it is then."""
        expected = owed(Evidence(sent=self._sent(), journal=await self.daemon.messages())).keys()
        least, until = sys.maxsize, time.monotonic() + SETTLES_WITHIN
        while time.monotonic() < until:
            waiting = len(expected - {one.answers for one in self.receiver.came if one.taken})
            if not waiting:
                return
            if waiting < least:
                least, until = waiting, time.monotonic() + SETTLES_WITHIN
            await asyncio.sleep(1)

    def _sent(self) -> list[Message]:
        return [message for sender in self.senders for message in sender.sent]

    async def _evidence(self) -> Evidence:
        return Evidence(
            sent=self._sent(),
            positive={key: value for sender in self.senders for key, value in sender.positive.items()},
            wrong_answers=[wrong for sender in self.senders for wrong in sender.wrong],
            journal=await self.daemon.messages(),
            letters=self.daemon.letters(),
            deliveries=self.endpoint.deliveries,
            bundles=self.endpoint.bundles,
            application_acks=self.receiver.came,
            writers=self.endpoint.writers,
            plain_posts=self.endpoint.plain_posts,
            broken=[*self.endpoint.broken, *self.receiver.broken],
            ended_by_itself=self.daemon.ended_by_itself,
        )

    def _figures(self, evidence: Evidence) -> dict[str, int | str]:
        counts: Counter[str] = Counter()
        for sender in self.senders:
            counts += sender.counts
        states = Counter(entry["state"] for entry in evidence.journal)
        applied = Counter(delivery.request_id for delivery in evidence.deliveries)
        return {
            "seed": self.setting.seed,
            "seconds of chaos": round(self.setting.seconds),
            "SIGKILLs": self.events["kill"] + self.events["kill while the disk is full"],
            "SIGSTOPs": self.events["pause"],
            "starts": self.daemon.starts,
            "messages sent": len(evidence.sent),
            "answers read": counts["answers"],
            "acknowledged": len(evidence.positive),
            "answered again with the same bytes": counts["answered again"],
            "told to send again (207)": counts["not stored"],
            "connections given up unanswered": counts["unanswered"],
            "delivered": states["delivered"],
            "dead letters": states["dead"],
            "requests to the endpoint": self.endpoint.requests,
            "applied more than once, same effect": sum(times > 1 for times in applied.values()),
            "sent to the endpoint more than once": sum(self.endpoint.asked[key] > 1 for key in self.endpoint.bundles),
            "application ACKs owed": len(owed(evidence)),
            "application ACKs read": len(evidence.application_acks),
            "resources at the endpoint": len(evidence.writers),
            "wire": ", ".join(
                f"{name} {counts[name]}" for name in ("cut", "cut_reset", "reset", "halfclose", "twin", "again")
            ),
            "answers of the endpoint": ", ".join(f"{name} {self.endpoint.manners[name]}" for name in MANNERS),
            "answers of the receiver": ", ".join(f"{name} {self.receiver.manners[name]}" for name in RECEIVED),
            "file system": "filled" if self.disk.mounted else "not filled: no right to mount one",
        }


def run(setting: Setting) -> Result:
    """Carries a run out and judges it."""
    setting.folder.mkdir(parents=True, exist_ok=True)
    return asyncio.run(Run(setting).carry_out())


def fresh_seed() -> str:
    return str(int.from_bytes(os.urandom(4), "big"))
