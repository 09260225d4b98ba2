"""Delivery into the real FHIR server, beside a bare loop that posts the same bundles at the same concurrency.

    python benchmarks/bench_server.py [--short] [--rounds 3]

Every measurement has an empty server of its own, warmed up by another patient's messages. The bare loop keeps no order,
writes nothing to disk and posts a refused bundle again at once. Ours is the daemon as it is shipped, from the first
frame to the last message delivered. Needs ../shared/servers (or HL7BRIDGE_SERVERS), built, with a JDK.
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
from pathlib import Path

import aiohttp
from bare import END, START, free_port
from figures import Effort, Figure, by_round, effort, interleaved, progress, show
from messages import FALLBACK, ROOT, feed, translatable
from served import Served

from hl7bridge import load_mappings, translate

AT_ONCE = 8  # fhir.concurrency's default
READY = 180.0
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
                for _ in range(100):
                    async with session.post(url, data=bundle, headers=TYPE) as answer:
                        await answer.read()
                        if answer.ok:
                            break

        await asyncio.gather(*(loop() for _ in range(AT_ONCE)))


async def _send(port: int, raws: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for raw in raws:
        writer.write(START + raw + END)
        await reader.readuntil(END)
    writer.close()
    await writer.wait_closed()


def measure(effort: Effort) -> Iterator[Figure]:
    runner = Path(os.environ.get("HL7BRIDGE_SERVERS") or ROOT.parent / "shared" / "servers") / "fhirserver" / "run.sh"
    if not runner.exists() or shutil.which("java") is None:
        progress("no real FHIR server at hand: no figure")
        return
    mappings = load_mappings()
    many, warm = effort.of(400, 10), effort.of(100, 2)
    found = translatable(feed(effort.of(1200, 40)), mappings)
    raws, warming = found[:many], found[many : many + warm]
    bundles, warm_bundles = (
        [translate(raw, mappings, charset_fallback=FALLBACK).bundle for raw in part] for part in (raws, warming)
    )

    def bare() -> float:
        with _fhir_server(runner) as url:
            asyncio.run(_post(url, warm_bundles))
            begin = time.perf_counter()
            asyncio.run(_post(url, bundles))
            return len(bundles) / (time.perf_counter() - begin)

    def ours() -> float:
        settings = {"LISTENERS__0__CHARSET_FALLBACK": FALLBACK}
        with _fhir_server(runner) as url, Served(url, **settings) as served:
            asyncio.run(_post(url, warm_bundles))
            begin = time.perf_counter()
            asyncio.run(_send(served.port, raws))
            # what the feed sends twice is one message here, so what counts is that nothing waits any more
            while served.metric("hl7bridge_undelivered") or not served.metric("hl7bridge_delivered_total"):
                time.sleep(0.05)
            if served.metric("hl7bridge_dead_total"):
                raise SystemExit("a message became a dead letter")
            return len(raws) / (time.perf_counter() - begin)

    progress(f"{many} bundles into a FHIR server, {effort.rounds} rounds")
    base, rates = interleaved(effort.rounds, bare, ours)
    yield Figure(
        "delivery into the real FHIR server",
        f"{statistics.median(rates):.1f} /s",
        f"bare loop, {statistics.median(base):.1f} /s",
        "0.95 x",
        by_round(rates, base),
    )


if __name__ == "__main__":
    show(measure(effort(__doc__)))
