"""Stored lineage through a whole run of the daemon: written with the delivery, told by `messages show` afterwards."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path

SAMPLES = Path(__file__).resolve().parents[2] / "samples"
WITHIN = 120.0  # seconds for what takes a few on a quiet machine
FAMILY = "Brandauer"
CONFIG = """
listeners: [{name: adt, host: 127.0.0.1, port: 0}]
observe: {host: 127.0.0.1, port: 0, log_format: json}
journal: {min_free_bytes: 0}
translate: {workers: 1, lineage: stored}
"""


async def asked(folder: Path, *words: str) -> tuple[int, str, str]:
    command = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hl7bridge", "--config", "site.yaml", *words),
        cwd=folder,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, error = await command.communicate()
    assert command.returncode is not None
    return command.returncode, out.decode(), error.decode()


def _any(folder: Path, pattern: str) -> list[Path]:
    return list(folder.glob(pattern))


async def test_what_was_stored_with_a_delivery_is_told_after_the_daemon_has_ended(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(CONFIG)
    daemon = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "hl7bridge", "--config", "site.yaml", "serve"),
        cwd=tmp_path,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(WITHIN):
            assert daemon.stderr is not None
            port, log = 0, b""
            async for line in daemon.stderr:
                log += line
                if b"listening" in line and (found := re.search(rb'"port":(\d+)', line)):
                    port = int(found[1])
                if b'"ready"' in line:
                    break
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for name in ("adt_a01_admit", "broken_two_patients"):
                writer.write(b"\x0b" + (SAMPLES / f"{name}.hl7").read_bytes().replace(b"\n", b"\r") + b"\x1c\r")
                assert b"MSA|" in await reader.readuntil(b"\x1c\r")
            writer.close()
            while not (_any(tmp_path, "var/out/**/*.json") and _any(tmp_path, "var/dlq/**/reason.json")):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            daemon.send_signal(signal.SIGTERM)
            log += await daemon.stderr.read()
            assert await daemon.wait() == 0
    finally:
        if daemon.returncode is None:
            daemon.kill()
            await daemon.wait()
    assert FAMILY.encode() not in log

    code, shown, said = await asked(tmp_path, "messages", "show", "NL240305-000101", "--lineage", "--json")
    assert code == 0 and "Stored when the tables of version" in said, said
    document = json.loads(shown)
    assert document["lineage"] == "stored" and document["mapping_version"] in said
    origins = {line["path"]: line["field"] for line in document["elements"]}
    assert any(field.startswith("PID[1]-5[1]") for field in origins.values()), "the name, by its place"
    bundle = json.loads(_any(tmp_path, "var/out/**/*.json")[0].read_bytes())
    assert f"Bundle.entry[{len(bundle['entry']) - 1}]" in "".join(origins), "of every entry of the bundle"
    assert FAMILY not in shown, "paths, never values"

    code, shown, said = await asked(tmp_path, "messages", "show", "NL240310-000099", "--lineage", "--json")
    assert code == 0, said
    dead = json.loads(shown)
    assert dead["lineage"] == "stored" and dead["error"], "a dead letter's tells why"
    assert "Haddad" not in shown
