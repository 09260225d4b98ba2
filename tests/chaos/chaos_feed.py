"""What the chaos driver sends: endless synthetic patients with a history each, and a real feed where one is given.

What holds:
- A message knows its lanes (the identifiers of PID-3 and MRG-1, read here anew and not by the bridge's own code), and what
  must become of it: `delivered`, `dead`, or `either` where a real feed decides.
- Whatever shares a lane belongs to one sender, so that "the order per patient" has one meaning.
- Every synthetic name carries SENTINEL, so that the daemon's log can be searched for it.
- Every third sender speaks enhanced mode and asks for an application ACK, for one in some cases only, or for none.
- Control ids are of the odd kind too: blanks, an escape, letters outside ASCII, 180 characters.
"""

from __future__ import annotations

import lzma
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SENTINEL = "ZQXCHAOSXQZ"
POISON = "Poison"  # a family name that the scripted endpoint always refuses
PATIENTS = 12  # of one sender at a time; a merge ends one and begins another
Fate = Literal["delivered", "dead", "either"]
ENHANCED = {"AL": 6, "ER": 1, "SU": 1, "NE": 1}  # MSH-16, and how often
_ODD_IDS = ("{} with blanks", "{}\\T\\", "{}é漢", "{}" + "x" * 180)


@dataclass(frozen=True, slots=True)
class Message:
    """One message on its way: `control_id` as text, `lanes` as clear identifiers, `application`: MSH-16."""

    control_id: str
    raw: bytes
    lanes: frozenset[str]
    fate: Fate
    application: str = ""


def synthetic(name: str, seed: str, enhanced: bool = False) -> Iterator[Message]:
    """The endless feed of one sender."""
    choose = random.Random(f"{seed} feed {name}")
    patients = [f"{name}-{n}" for n in range(PATIENTS)]
    begun: dict[str, int] = {}
    orders: dict[str, int] = {}
    count = 0
    while True:
        count += 1
        patient = choose.choice(patients)
        control_id = f"{name}.{count}"
        if choose.random() < 0.05:
            control_id = choose.choice(_ODD_IDS).format(control_id)
        if patient not in begun:
            begun[patient] = 0
            event = "A01"
        else:
            event = choose.choices(["A08", "A02", "A03", "R01", "A40"], [6, 3, 1, 8, 1])[0]
        begun[patient] += 1
        step = begun[patient]
        kind = choose.random()
        fate: Fate = "delivered"
        family = f"{SENTINEL}{step}"
        doubled = False
        if event == "A08" and kind < 0.05:
            fate, family = "dead", POISON
        elif event == "A08" and kind < 0.1:
            fate, doubled = "dead", True  # two patients in a message of one: no table can say whose it is
        lanes = {patient}
        if event == "A40":
            survivor = f"{name}-m{count}"
            lanes.add(survivor)
            patients[patients.index(patient)] = survivor
            begun[survivor] = 1
            body = [_pid(survivor, family), f"MRG|{_cx(patient)}"]
        elif event == "R01":
            if not orders.get(patient) or choose.random() < 0.4:
                orders[patient] = count
            filler = f"{patient}-{orders[patient]}"
            body = [_pid(patient, family), f"ORC|RE||{filler}^LAB"]
            body.append(f"OBR|1||{filler}^LAB|718-7^Hemoglobin^LN|||20240305140000+0100||||||||||||||||||F")
            body += [f"OBX|{n}|NM|{n}-1^Test {n}^L||{step}|g/L|||||F" for n in range(1, choose.randrange(2, 6))]
        else:
            body = [_pid(patient, family)] * (2 if doubled else 1)
            body.append(
                f"PV1|1|I|W{step % 7}^{step % 20}^1|||W{(step + 1) % 7}^{step % 20}^1"
                f"|D1^{SENTINEL}^Doctor||||||||||||V{patient}^^^T&1.2.3.4&ISO^VN"
            )
        kind_of = "ORU" if event == "R01" else "ADT"
        application = choose.choices(list(ENHANCED), list(ENHANCED.values()))[0] if enhanced else ""
        modes = f"{'AL' if enhanced else ''}|{application}"
        head = (
            f"MSH|^~\\&|CHAOS|{name}|||20240305143012+0100||{kind_of}^{event}|{control_id}|P|2.5.1|||{modes}"
            "||UNICODE UTF-8"
        )
        evn = [] if event == "R01" else [f"EVN|{event}|20240305143012+0100"]
        yield Message(control_id, "\r".join([head, *evn, *body, ""]).encode(), frozenset(lanes), fate, application)


def _cx(identifier: str) -> str:
    return f"{identifier}^^^T&1.2.3.4&ISO^MR"


def _pid(identifier: str, family: str) -> str:
    return f"PID|1||{_cx(identifier)}||{family}^{SENTINEL}||19610317|F|||{SENTINEL} street^^{SENTINEL}^^1234"


def real(path: Path, senders: int, limit: int) -> list[list[Message]]:
    """A real feed, shared out so that what has a lane in common stays with one sender, in the feed's order."""
    text = lzma.decompress(path.read_bytes()) if path.suffix == ".xz" else path.read_bytes()
    parts = [part for part in re.split(rb"[\r\n]+(?=MSH\|)", text) if part.startswith(b"MSH|")][:limit]
    messages: list[Message] = []
    seen: set[str] = set()
    for part in parts:
        raw = re.sub(rb"[\r\n]+", b"\r", part.strip()) + b"\r"
        control_id = raw.split(b"|", 10)[9].decode("utf-8", "replace")
        if control_id and control_id not in seen:
            seen.add(control_id)
            messages.append(Message(control_id, raw, _lanes(raw), "either", _application(raw)))
    home: dict[str, str] = {}

    def root(lane: str) -> str:
        while home.setdefault(lane, lane) != lane:
            lane = home[lane]
        return lane

    for message in messages:
        first, *others = sorted(message.lanes) or [message.control_id]
        for other in others:
            home[root(other)] = root(first)
    shares: list[list[Message]] = [[] for _ in range(senders)]
    for message in messages:
        lane = root(min(message.lanes)) if message.lanes else message.control_id
        shares[random.Random(lane).randrange(senders)].append(message)
    return shares


def _application(raw: bytes) -> str:
    """MSH-16."""
    fields = raw.partition(b"\r")[0].split(b"|")
    return fields[15].decode("ascii", "replace") if len(fields) > 15 else ""


def _lanes(raw: bytes) -> frozenset[str]:
    found = set()
    for line in raw.decode("utf-8", "replace").split("\r"):
        fields = line.split("|")
        place = {"PID": 3, "MRG": 1}.get(fields[0])
        if place is not None and len(fields) > place:
            found |= {cx.split("^")[0].strip().casefold() for cx in fields[place].split("~")} - {""}
    return frozenset(found)
