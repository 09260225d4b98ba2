"""A minimal message as cells: (segment, field, repetition, component, subcomponent) -> text, and its bytes.

A segment is named by its place in the guide's message map (`ADT_A01.PROCEDURE.PR1`), so that one id can stand twice.
Every segment brings the little that a message of its kind always has; a case overwrites or empties it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

Cell = tuple[str, int, int, int, int]
CONTROL_ID = "CONTROL1"
BASE_NAME = "Basefamily"
EVENTS = {"ADT_A01": "A01", "ADT_A02": "A02", "ADT_A05": "A05", "ADT_A06": "A06", "ADT_A09": "A09", "ADT_A11": "A11"}
EVENTS |= {"ADT_A17": "A17", "ORU_R01": "R01"}
BASE: dict[str, dict[int, str]] = {
    "MSH": {3: "SNDAPP", 4: "SNDFAC", 5: "RCVAPP", 6: "RCVFAC", 7: "20240229101112+0100", 10: CONTROL_ID, 11: "P"},
    "SFT": {1: "Basesoft", 2: "1.0", 3: "Baseproduct"},
    "EVN": {2: "20240229101112+0100"},
    "PID": {3: "BASE1^^^BASEAUTH", 5: f"{BASE_NAME}^Basegiven"},
    "MRG": {1: "OLD1^^^BASEAUTH"},
    "NK1": {1: "1", 2: "Basekin^Kin"},
    "PV1": {2: "I"},
    "ROL": {2: "AD", 3: "AT^^HL70443", 4: "R1^Baserole"},
    "PRT": {2: "AD", 4: "AT^^HL70912", 5: "P1^Basepart"},
    "OBX": {1: "1", 2: "ST", 3: "OBXCODE^Base test^L", 5: "base", 11: "F"},
    "AL1": {1: "1", 3: "ALG^Base allergen^L"},
    "DG1": {1: "1", 3: "DX^Base diagnosis^L"},
    "PR1": {1: "1", 3: "PROC^Base procedure^L", 5: "20240228"},
    "IN1": {1: "1", 2: "PLAN^Base plan^L", 3: "COMP1", 4: "Baseinsurer"},
    "ORC": {1: "RE", 2: "BASEORDER"},
    "OBR": {1: "1", 4: "OBRCODE^Base order^L", 25: "F"},
    "NTE": {1: "1", 3: "base note"},
    "SPM": {1: "1", 4: "BLD"},
}
ALWAYS = {"ADT": ("MSH", "EVN", "PID", "PV1"), "ORU": ("MSH", "PID", "OBR", "OBX")}
_ESCAPES = str.maketrans({"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"})


@dataclass
class Sketch:
    """A message being made. `order`: the segments' places in the guide's map, in order."""

    map: str
    order: list[str]
    cells: dict[Cell, str] = field(default_factory=dict)
    present: set[str] = field(default_factory=set)

    def copy(self) -> Sketch:
        return Sketch(self.map, self.order, dict(self.cells), set(self.present))

    def add(self, place: str) -> None:
        """Brings a segment with its base content, and the segments its group cannot be without."""
        if place in self.present:
            return
        for leader in self._leaders(place):
            self.add(leader)
        self.present.add(place)
        for number, text in BASE.get(segment_id(place), {}).items():
            self.put(place, number, text)
        if segment_id(place) == "MSH":
            event = EVENTS[self.map]
            self.put(place, 9, f"{self.map[:3]}^{event}^{self.map}")
            self.put(place, 12, "2.5.1")

    def _leaders(self, place: str) -> list[str]:
        """The first segment of each group around; of `:follow:PID`, the PID."""
        if ":follow:" in place:
            head, _, tail = place.partition(":follow:")
            return [p for p in self.order if p.startswith(head) and p.endswith("." + tail.partition(".")[0])][:1]
        found = []
        parts = place.split(".")
        for depth in range(2, len(parts)):
            group = ".".join(parts[:depth]) + "."
            members = [p for p in self.order if p.startswith(group)]
            first = next((p for p in members if "." not in p.removeprefix(group) and segment_id(p) != "PRT"), None)
            if group.endswith(("PATIENT_RESULT.", "ORDER_OBSERVATION.")):
                first = next((p for p in members if segment_id(p) == "OBR"), first)
            if first and first != place:
                found.append(first)
        return [p for p in found if self.order.index(p) < self.order.index(place)]

    def put(self, place: str, number: int, text: str, rep: int = 1) -> None:
        """A whole field, with its separators."""
        self.clear(place, number, rep=rep)
        for c, component in enumerate(text.split("^"), 1):
            for s, leaf in enumerate(component.split("&"), 1):
                if leaf:
                    self.cells[place, number, rep, c, s] = leaf

    def clear(self, place: str, number: int, component: int = 0, sub: int = 0, rep: int = 0) -> None:
        for cell in [c for c in self.cells if c[:2] == (place, number)]:
            if (not rep or cell[2] == rep) and (not component or cell[3] == component) and (not sub or cell[4] == sub):
                del self.cells[cell]

    def drop(self, place: str) -> None:
        self.present.discard(place)
        for cell in [c for c in self.cells if c[0] == place]:
            del self.cells[cell]

    def text(self, place: str, number: int, component: int = 1, sub: int = 1, rep: int = 1) -> str:
        return self.cells.get((place, number, rep, component, sub), "")

    def valued(self, place: str, number: int = 0, component: int = 0, sub: int = 0) -> bool:
        if not number:
            return place in self.present
        return any(
            text and (not component or c[3] == component) and (not sub or c[4] == sub)
            for c, text in self.cells.items()
            if c[:2] == (place, number)
        )

    def repetitions(self, place: str, number: int) -> int:
        return len({c[2] for c, text in self.cells.items() if c[:2] == (place, number) and text})

    def raw(self) -> bytes:
        lines = []
        for place in sorted(self.present, key=self.order.index):
            numbers = [c[1] for c in self.cells if c[0] == place]
            fields = [self._field(place, n) for n in range(1, max(numbers, default=0) + 1)]
            head = segment_id(place)
            lines.append("MSH|^~\\&|" + "|".join(fields[2:]) if head == "MSH" else head + "|" + "|".join(fields))
        return "\r".join([*lines, ""]).encode()

    def _field(self, place: str, number: int) -> str:
        reps: dict[int, dict[int, dict[int, str]]] = {}
        for cell, text in self.cells.items():
            if cell[:2] == (place, number):
                reps.setdefault(cell[2], {}).setdefault(cell[3], {})[cell[4]] = text.translate(_ESCAPES)
        return "~".join(
            _joined({c: _joined(subs, "&") for c, subs in components.items()}, "^")
            for _, components in sorted(reps.items())
        )


def _joined(parts: dict[int, str], separator: str) -> str:
    return separator.join(parts.get(n, "") for n in range(1, max(parts, default=0) + 1))


def segment_id(place: str) -> str:
    return place.rpartition(".")[2]


def sketch(map: str, order: list[str]) -> Sketch:
    """A message of a map with what every such message has."""
    made = Sketch(map, order)
    for wanted in ALWAYS[map[:3]]:
        found = next((p for p in order if segment_id(p) == wanted and (wanted != "OBX" or ".OBSERVATION." in p)), None)
        if found:
            made.add(found)
    return made
