"""What differs between two bundles of one message, by FHIR path. Sans-IO.

What holds and why:
- Entries are compared with their like: the same fullUrl, else the next of the same type that has none. References are
  compared by the entry they lead to, so that a patient who got another identity is one difference and not one for each
  reference.
- Items of a list are compared with their like: an equal one, else one with the same url, system, use or code, else the
  next. An identifier put in front of others is one that was added, not a change of all.
- A number is its digits (resource.Number): 7.0 and 7.00 differ. Paths carry no positions, so that they can be counted
  over messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from hl7bridge.fhir.resource import Body

Kind = Literal["added", "removed", "changed", "order"]

ALIKE = ("url", "system", "use", "code", "type")  # elements that tell items of a list apart, the surest first


@dataclass(frozen=True, slots=True)
class Difference:
    """`path`: Patient.name.family, without positions; `at`: where in its bundle (the old one's if it was removed).

    `old`, `new`: the values; None on the side that has none. They are patient data.
    """

    kind: Kind
    path: str
    at: str
    old: Any = field(repr=False)
    new: Any = field(repr=False)


def differences(one: Body, other: Body) -> list[Difference]:
    """All differences of two bundles, the old and the new; none for bundles that say the same."""
    if one == other:
        return []
    pairs, left, right = _paired(one.get("entry", []), other.get("entry", []))
    names_old, names_new = _names(pairs, left, 0), _names(pairs, right, 1)
    moved = names_old != names_new  # else references to one entry are equal as they are
    found: list[Difference] = []
    head_old, head_new = ({k: v for k, v in bundle.items() if k != "entry"} for bundle in (one, other))
    found += _compare(head_old, head_new, "Bundle", "Bundle")
    for (_, before), (position, after) in pairs:
        if before == after and not moved:
            continue
        type = _type(after)
        at = f"Bundle.entry[{position}]"
        mine, theirs = (_renamed(before, names_old), _renamed(after, names_new)) if moved else (before, after)
        found += _compare(mine.get("resource", {}), theirs.get("resource", {}), type, f"{at}.resource")
        found += _compare(mine.get("request", {}), theirs.get("request", {}), f"{type}: request", f"{at}.request")
    for position, entry in left:
        resource = entry.get("resource", {})
        found.append(Difference("removed", _type(entry), f"Bundle.entry[{position}].resource", resource, None))
    for position, entry in right:
        resource = entry.get("resource", {})
        found.append(Difference("added", _type(entry), f"Bundle.entry[{position}].resource", None, resource))
    return found


Placed = tuple[int, dict[str, Any]]  # an entry with its position


def _paired(
    old: Sequence[dict[str, Any]], new: Sequence[dict[str, Any]]
) -> tuple[list[tuple[Placed, Placed]], list[Placed], list[Placed]]:
    """Entries that are compared, and those only one bundle has."""
    mine, theirs = list(enumerate(old)), list(enumerate(new))
    pairs: list[tuple[Placed, Placed]] = []
    for key in (lambda entry: (_type(entry), entry.get("fullUrl")), _type):
        waiting: dict[Any, list[Placed]] = {}
        for placed in theirs:
            waiting.setdefault(key(placed[1]), []).append(placed)
        rest: list[Placed] = []
        for placed in mine:
            like = waiting.get(key(placed[1]))
            if like:
                pairs.append((placed, like.pop(0)))
            else:
                rest.append(placed)
        mine, theirs = rest, sorted((p for like in waiting.values() for p in like), key=lambda placed: placed[0])
    return pairs, mine, theirs


def _type(entry: dict[str, Any]) -> Any:
    """The resource's type; that of the url where an entry deletes."""
    resource = entry.get("resource")
    return resource["resourceType"] if resource else entry["request"]["url"].partition("?")[0].partition("/")[0]


def _names(pairs: Sequence[tuple[Placed, Placed]], alone: Sequence[Placed], side: int) -> dict[str, str]:
    """fullUrl -> a name that is the same in both bundles for entries that are compared with each other."""
    names = {pair[side][1].get("fullUrl", ""): f"entry {number}" for number, pair in enumerate(pairs)}
    names |= {entry.get("fullUrl", ""): f"entry {side}.{position}" for position, entry in alone}
    names.pop("", None)
    return names


def _renamed(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {
            name: names.get(part, part) if name == "reference" and isinstance(part, str) else _renamed(part, names)
            for name, part in value.items()
        }
    if isinstance(value, list):
        return [_renamed(part, names) for part in value]
    return value


def _compare(old: Any, new: Any, path: str, at: str) -> Iterator[Difference]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in {**old, **new}:
            here, there = f"{path}.{name}", f"{at}.{name}"
            if name not in new:
                yield Difference("removed", here, there, old[name], None)
            elif name not in old:
                yield Difference("added", here, there, None, new[name])
            else:
                yield from _compare(old[name], new[name], here, there)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(old, new, path, at)
    elif not (old == new and type(old) is type(new)):
        yield Difference("changed", path, at, old, new)


def _lists(old: list[Any], new: list[Any], path: str, at: str) -> Iterator[Difference]:
    if old == new:
        return
    mine, theirs = list(enumerate(old)), list(enumerate(new))
    kept: list[int] = []
    for placed in list(mine):
        equal = next((other for other in theirs if other[1] == placed[1]), None)
        if equal is not None:
            mine.remove(placed)
            theirs.remove(equal)
            kept.append(equal[0])
    if kept != sorted(kept):
        yield Difference("order", path, at, old, new)
    for name in (*ALIKE, None):
        for placed in list(mine):
            like = next((other for other in theirs if _alike(placed[1], other[1], name)), None)
            if like is not None:
                mine.remove(placed)
                theirs.remove(like)
                yield from _compare(placed[1], like[1], _named(path, like[1]), f"{at}[{like[0]}]")
    for position, item in mine:
        yield Difference("removed", _named(path, item), f"{at}[{position}]", item, None)
    for position, item in theirs:
        yield Difference("added", _named(path, item), f"{at}[{position}]", None, item)


def _alike(one: Any, other: Any, name: str | None) -> bool:
    if name is None:
        # what names itself is never compared with something of another name
        return type(one) is type(other) and _url(one) == _url(other)
    if not isinstance(one, dict) or not isinstance(other, dict):
        return False
    return name in one and one[name] == other.get(name)


def _url(item: Any) -> Any:
    return item.get("url") if isinstance(item, dict) else None


def _named(path: str, item: Any) -> str:
    """Extensions are told apart by the end of their url: Patient.extension(patient-religion)."""
    url = _url(item)
    if isinstance(url, str) and path.endswith("xtension"):
        return f"{path}({url.rpartition('/')[2]})"
    return path
