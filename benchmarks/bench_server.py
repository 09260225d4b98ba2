"""Delivery into the real FHIR server, beside a bare loop that posts the same bundles at the same concurrency.

    python benchmarks/bench_server.py [--short] [--rounds 5]

Every measurement has an empty server of its own, warmed up by the same number of other messages of the same kind: their
bundles on one side, the messages through the daemon on the other, so that its tables are code too. No two bundles share
a patient, a visit, a clinician, a place or an organization (strangers.py): the bare loop keeps no order, and a server
refuses what is created twice at one moment. It writes nothing to disk. Ours is the daemon as it is shipped, from the
first frame to the last message delivered. On both sides every answer is 2xx at the first try, or there is no figure.
Needs ../shared/servers (or HL7BRIDGE_SERVERS), built, with a JDK.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import aiohttp
from bare import END, START, free_port
from figures import Effort, Figure, by_round, effort, interleaved, progress, show
from messages import ROOT
from served import Served
from strangers import strangers

from hl7bridge import load_mappings, translate

AT_ONCE = 8  # fhir.concurrency's default
READY = 180.0
LONGEST = 600.0
TYPE = {"Content-Type": "application/fhir+json"}


@contextlib.contextmanager
def _fhir_server(runner: Path) -> Iterator[str]:
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        with log.open("wb") as out:
            command = ["bash", str(runner), str(port), f"jdbc:h2:file:{folder}/h2"]
            process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
        try:
            until = time.monotonic() + READY
            while b"READY " not in log.read_bytes():
                if process.poll() is not None or time.monotonic() > until:
                    raise SystemExit("the FHIR server does not start")
                time.sleep(0.2)
            yield f"http://127.0.0.1:{port}/fhir"
        finally:
            process.kill()
            process.wait()


async def _post(url: str, bundles: list[bytes]) -> None:
    left = iter(bundles)
    async with aiohttp.ClientSession() as session:

        async def loop() -> None:
            for bundle in left:
                async with session.post(url, data=bundle, headers=TYPE) as answer:
                    await answer.read()
                    if not answer.ok:
                        raise SystemExit(f"the server answers {answer.status} to the bare loop: no figure")

        await asyncio.gather(*(loop() for _ in range(AT_ONCE)))


async def _send(port: int, raws: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for raw in raws:
        writer.write(START + raw + END)
        await reader.readuntil(END)
    writer.close()
    await writer.wait_closed()


def _wait(served: Served, many: int) -> None:
    """Until so many are delivered in all, each at its first attempt. To ask costs the daemon time: it is asked seldom
    while most are still to come."""
    begin = time.monotonic()
    before = delivered = served.metric("hl7bridge_delivered_total")
    while delivered < many:
        if served.metric("hl7bridge_dead_total") or served.metric("hl7bridge_retried_total"):
            raise SystemExit("the server did not take a bundle of ours at the first try: no figure")
        passed = time.monotonic() - begin
        if passed > LONGEST:
            raise SystemExit(f"{delivered:.0f} of {many} delivered after {LONGEST:g} s")
        left = (many - delivered) * passed / max(delivered - before, 1)
        time.sleep(min(max(left / 4, 0.02), 1.0))
        delivered = served.metric("hl7bridge_delivered_total")


def measure(effort: Effort) -> Iterator[Figure]:
    runner = Path(os.environ.get("HL7BRIDGE_SERVERS") or ROOT.parent / "shared" / "servers") / "fhirserver" / "run.sh"
    if not runner.exists() or shutil.which("java") is None:
        progress("no real FHIR server at hand: no figure")
        return
    mappings = load_mappings()
    many, rounds = effort.of(300, 10), effort.rounds
    raws = list(islice(strangers("m"), many))
    raws_before = list(islice(strangers("w"), effort.of(150, 4)))
    bundles, warming = ([translate(raw, mappings).bundle for raw in part] for part in (raws, raws_before))

    def bare() -> float:
        with _fhir_server(runner) as url:
            asyncio.run(_post(url, warming))
            begin = time.perf_counter()
            asyncio.run(_post(url, bundles))
            return many / (time.perf_counter() - begin)

    def ours() -> float:
        with _fhir_server(runner) as url, Served(url) as served:
            asyncio.run(_send(served.port, raws_before))
            _wait(served, len(raws_before))
            begin = time.perf_counter()
            asyncio.run(_send(served.port, raws))
            _wait(served, len(raws_before) + many)
            return many / (time.perf_counter() - begin)

    progress(f"{many} bundles into a FHIR server, {rounds} rounds")
    base, rates = interleaved(rounds, bare, ours)
    yield Figure(
        f"delivery into the real FHIR server, {AT_ONCE} at once",
        f"{statistics.median(rates):.1f} /s",
        f"bare loop, {statistics.median(base):.1f} /s",
        "0.95 x",
        by_round(rates, base),
    )


if __name__ == "__main__":
    show(measure(effort(__doc__)))
