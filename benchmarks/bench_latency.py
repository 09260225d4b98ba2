"""Receive to delivered against a local HTTP endpoint that only answers: p50 and p99 at a few steady rates.

    python benchmarks/bench_latency.py [--seconds 8] [--rates 50 100 200 400]

Receive is the moment before the frame is written to the socket, delivered the moment the endpoint has read the
bundle; one clock, one machine. The endpoint runs in a process of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import time
from typing import Any

from aiohttp import web
from bench_ack import END, MESSAGE, START, Served, free_port, wait_for_port


def _serve_endpoint(port: int, arrivals: Any) -> None:
    async def post(request: web.Request) -> web.Response:
        body = await request.read()
        arrivals.put((request.headers["X-Request-ID"], time.time(), body[:4000]))
        entries = ",".join(['{"response":{"status":"200 OK"}}'] * body.count(b'"fullUrl"'))
        text = f'{{"resourceType":"Bundle","type":"transaction-response","entry":[{entries}]}}'
        return web.Response(text=text, content_type="application/fhir+json")

    app = web.Application(client_max_size=64 * 1024 * 1024)
    app.router.add_post("/{path:.*}", post)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


async def _load(port: int, rate: float, seconds: float, sent: dict[str, float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)

    async def drain() -> None:
        while await reader.read(65536):
            pass

    task = asyncio.create_task(drain())
    begin = time.perf_counter()
    count = int(rate * seconds)
    for i in range(count):
        delay = begin + i / rate - time.perf_counter()
        if delay > 0:
            await asyncio.sleep(delay)
        control_id = f"R{rate:g}-{i}"
        sent[control_id] = time.time()
        writer.write(START + MESSAGE % (control_id.encode(), control_id.encode()) + END)
    await asyncio.sleep(2)
    writer.close()
    task.cancel()


def _delivered(arrivals: Any, count: int) -> dict[str, float]:
    """control id -> time, read from the bundle's identifier (MSH-10)."""
    found: dict[str, float] = {}
    deadline = time.monotonic() + 120
    while len(found) < count and time.monotonic() < deadline:
        try:
            _, at, body = arrivals.get(timeout=5)
        except Exception:
            break
        control_id = body.partition(b'"identifier":{')[2].partition(b'"value":"')[2].partition(b'"')[0].decode()
        found.setdefault(control_id, at)
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--seconds", type=float, default=6)
    arguments.add_argument("--rates", type=float, nargs="+", default=[50, 100, 200, 400])
    options = arguments.parse_args()
    context = multiprocessing.get_context("spawn")
    arrivals = context.Queue()
    port = free_port()
    endpoint = context.Process(target=_serve_endpoint, args=(port, arrivals), daemon=True)
    endpoint.start()
    wait_for_port(port)
    print(f"{'msg/s':>8}{'delivered':>12}{'p50 ms':>10}{'p99 ms':>10}{'max ms':>10}")
    for rate in options.rates:
        served = Served(f"http://127.0.0.1:{port}/fhir")
        try:
            sent: dict[str, float] = {}
            asyncio.run(_load(served.port, rate, options.seconds, sent))
            found = _delivered(arrivals, len(sent))
        finally:
            served.close()
        took = sorted((at - sent[c]) * 1000 for c, at in found.items() if c in sent)
        if not took:
            print(f"{rate:>8g}{0:>12}")
            continue
        figures = took[len(took) // 2], took[min(len(took) - 1, int(len(took) * 0.99))], took[-1]
        print(f"{rate:>8g}{f'{len(took)}/{len(sent)}':>12}" + "".join(f"{x:>10.1f}" for x in figures))
    endpoint.terminate()


if __name__ == "__main__":
    main()
