"""TLS files of a channel that change while the daemon runs (fault catalogue 52, toward who takes application ACKs)."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from replies_stand import Stand, channels, fields, message, running, stand

from hl7bridge.delivery import tls as delivery_tls
from hl7bridge.delivery.shipment import EndpointObserver
from hl7bridge.errors import ConfigError
from hl7bridge.journal.protocol import State
from hl7bridge.tls.rotation import Ending

sys.path.append(str(Path(__file__).resolve().parents[1] / "mllp"))
from paper_authority import Authority


@pytest.fixture(autouse=True)
def looking_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channels, "LOOK", 0.02)
    monkeypatch.setattr(running, "LOOK", 0.02)
    monkeypatch.setattr(delivery_tls, "LOOK", 0.0)


class Notes(EndpointObserver):
    def __init__(self) -> None:
        self.said: list[tuple[str, str | None]] = []

    def certificates(self, key: str, endings: Sequence[Ending], unfit: str | None) -> None:
        self.said.append((key, unfit))


def put(source: tuple[str, str], place: tuple[Path, Path]) -> None:
    """A new certificate and its key in the place of the old ones, as a renewal does it."""
    for new, old in zip(source, place, strict=True):
        fresh = old.with_suffix(".new")
        fresh.write_bytes(Path(new).read_bytes())
        fresh.rename(old)


async def told(s: Stand, control_id: str) -> None:
    """One more message whose application ACK is taken."""
    before = len(s.receiver.came)
    await s.give(message(control_id))
    await s.settle(control_id, State.DELIVERED)
    await s.until(lambda: len(s.receiver.came) > before)
    assert fields(s.receiver.came[-1], b"MSA")[2] == control_id.encode()
    row = s.notes.said
    await s.until(lambda: sum(said[0] == "sent" for said in row) == before + 1)


async def test_rotated_files_are_used_by_the_next_acknowledgement_and_unfit_ones_are_told_once(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    files = tmp_path / "channel.crt", tmp_path / "channel.key"
    put(ours.issue("first", usage="client"), files)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(*ours.issue("localhost", usage="server"))
    server.load_verify_locations(ours.file)
    server.verify_mode = ssl.CERT_REQUIRED
    tls = {"ca": ours.file, "certificate": str(files[0]), "key": str(files[1])}
    notes = Notes()
    async with stand(tmp_path / "journal", {"acks": {"tls": tls}}, tls=server) as s, s.replies(notes):
        await told(s, "C1")
        await told(s, "C2")
        assert (s.receiver.shown, s.receiver.connections) == (["first"], 1)

        files[1].write_text("half of a renewal: no key")
        await told(s, "C3")
        await told(s, "C4")
        assert s.receiver.shown == ["first"], "the connection that stands goes on"
        assert [unfit for _, unfit in notes.said if unfit] and len(notes.said) == 2

        put(ours.issue("second", usage="client"), files)
        await told(s, "C5")
        assert s.receiver.shown == ["first", "second"]
        assert notes.said[-1] == ("listeners.lab.application_acks.tls", "")


async def test_files_that_are_unfit_to_begin_with_are_a_mistake_of_the_configuration(tmp_path: Path) -> None:
    async with stand(tmp_path, {"acks": {"tls": {"ca": str(tmp_path / "nothing.pem")}}}) as s:
        with pytest.raises(ConfigError, match=r"listeners\.lab\.application_acks\.tls\.ca: there is no file"):
            async with s.replies():
                pass
