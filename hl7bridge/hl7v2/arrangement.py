"""Segments of a real message into the groups of a structure, however disordered they come.

Each segment takes the first of these places there is; open groups are looked at from the innermost outwards:

1. strictly forward: a later node, or one more of a repeating node the cursor is at, with nothing required left out;
   or a required node that was left out and is still owed
2. forward, leaving out something required, in groups that are open or required themselves (an OBX without its OBR)
3. out of order: a free place that was passed, also in a group that was closed, or one more of a passed repeating group
4. forward into an optional group whose required beginning is missing
5. one more of a repeating group without its required beginning, if the one before lacks that too (the sender never
   sends it); else a second PV1 would open a patient without a PID

A segment the structure knows but has no such place for is a problem; it stands in no group. What the structure does not
know (Z segments) is unplaced, beside the group it followed. Steps 1, 2 and 4 depend only on where the cursors are, so
they are worked out once for each situation and kept; an ordered message costs one dictionary look-up a segment.

A required beginning stays owed to the group that left it out only while nothing repeating stands in that group: `PV1
PID` is one patient in disorder, but in `OBX OBR` the OBX belongs to an order that was not sent.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from hl7bridge.hl7v2.groups import Arrangement, Group, Leaf, Problem
from hl7bridge.hl7v2.message import Segment
from hl7bridge.hl7v2.syntax import Node

MAX_STATES = 20_000  # situations kept; further ones are worked out again each time


class _Frame(NamedTuple):
    """An open group: its node, the index of the child it has come to (-1: none), required children that are owed."""

    node: Node
    cursor: int
    owed: frozenset[int]


class _Entry(NamedTuple):
    """The best way into a node for a segment: groups to open (as frames), the leaf, and what it leaves out."""

    opens: tuple[_Frame, ...]
    leaf: Node
    skipped: tuple[Node, ...]
    expected: bool  # nothing left out in an optional group
    repeating: bool  # something on the way repeats


class _State:
    """The open groups, from the message inwards, and the moves found for this situation so far."""

    __slots__ = ("forward", "frames", "late")

    def __init__(self, frames: tuple[_Frame, ...]) -> None:
        self.frames = frames
        self.forward: dict[str, _Move | None] = {}  # steps 1 and 2
        self.late: dict[str, _Move | None] = {}  # step 4


class _Move:
    """Keep so many open groups, open these, put the segment there; then the situation is that."""

    __slots__ = ("keep", "leaf_path", "opens", "state")

    def __init__(self, keep: int, opens: tuple[tuple[str, bool], ...], leaf_path: str, state: _State) -> None:
        self.keep = keep
        self.opens = opens
        self.leaf_path = leaf_path
        self.state = state


class _Spot(NamedTuple):
    """A free place found by looking at what is there: the group to go on from, groups to open in it, and the leaf."""

    group: Group
    opens: tuple[_Frame, ...]
    leaf: Node


class Arranger:
    """Arranges messages of one structure. Keeps what it learns about situations, nothing about messages."""

    def __init__(self, root: Node) -> None:
        self._root = root
        self._states: dict[tuple[_Frame, ...], _State] = {}
        self._start = self._state((_Frame(root, -1, frozenset()),))

    def arrange(self, segments: Iterable[Segment]) -> Arrangement:
        """See the module's text. Never raises."""
        result = Arrangement()
        stack: list[Group] = [result]
        state = self._start
        leaves = result.leaves
        for segment in segments:
            segment_id = segment.id
            try:
                move = state.forward[segment_id]
            except KeyError:
                move = self._forward(state, segment_id)
            if move is None:
                state = self._unordered(result, stack, state, segment)
                continue
            state = move.state
            del stack[move.keep :]
            group = stack[-1]
            for path, repeats in move.opens:
                inner = Group(path, group, repeats)
                group.members.append(inner)
                stack.append(inner)
                group = inner
            leaf = Leaf(move.leaf_path, segment, group)
            group.members.append(leaf)
            leaves.append(leaf)
        return result

    def _state(self, frames: tuple[_Frame, ...]) -> _State:
        state = self._states.get(frames)
        if state is None:
            state = _State(frames)
            if len(self._states) < MAX_STATES:
                self._states[frames] = state
        return state

    # --- steps 1, 2 and 4: from the situation alone

    def _forward(self, state: _State, segment_id: str) -> _Move | None:
        if segment_id not in self._root.contains:
            return None  # not kept: what is unknown has no limit
        strict = expected = other = None
        for depth in range(len(state.frames) - 1, -1, -1):
            found = self._from_frame(state.frames, depth, segment_id)
            strict = strict or found[0]
            if strict:
                break
            expected, other = expected or found[1], other or found[2]
        state.late[segment_id] = other
        state.forward[segment_id] = strict or expected
        return strict or expected

    def _from_frame(
        self, frames: tuple[_Frame, ...], depth: int, segment_id: str
    ) -> tuple[_Move | None, _Move | None, _Move | None]:
        """Moves from one open group: strict (step 1), expected (2), other (4)."""
        node, cursor, owed = frames[depth]
        loose: dict[bool, tuple[int, int, _Move]] = {}
        for child in node.children[max(cursor, 0) :]:
            at_cursor = child.index == cursor
            if segment_id not in child.contains or (at_cursor and not child.repeats):
                continue
            entry = _entry(child, segment_id)
            between = frozenset(c.index for c in node.children[cursor + 1 : child.index] if c.required)
            missing = len(between) + len(entry.skipped)
            frame = _Frame(node, child.index, owed | between)
            if not missing:
                return self._move(frames[:depth], frame, entry), None, None
            if not at_cursor:
                found = (missing, child.index, self._move(frames[:depth], frame, entry))
                loose[entry.expected] = min(found, loose.get(entry.expected, found), key=_rank)
        for index in sorted(owed):
            child = node.children[index]
            if segment_id in child.contains and not (entry := _entry(child, segment_id)).skipped:
                frame = _Frame(node, cursor, owed - {index})
                return self._move(frames[:depth], frame, entry), None, None
        expected, other = (loose[kind][2] if kind in loose else None for kind in (True, False))
        return None, expected, other

    def _move(self, outer: tuple[_Frame, ...], frame: _Frame, entry: _Entry) -> _Move:
        state = self._state((*outer, frame, *entry.opens))
        return _Move(len(outer) + 1, tuple((f.node.path, f.node.repeats) for f in entry.opens), entry.leaf.path, state)

    # --- steps 3 to 5: from the groups that are there

    def _unordered(self, result: Arrangement, stack: list[Group], state: _State, segment: Segment) -> _State:
        segment_id = segment.id
        if segment_id not in self._root.contains:
            result.unplaced.append(Leaf("", segment, stack[-1]))
            return state
        frames = state.frames
        for depth in range(len(stack) - 1, -1, -1):
            inner = stack[depth + 1] if depth + 1 < len(stack) else None
            spot = _spot(stack[depth], frames[depth].node, segment_id, frames[depth].cursor, inner)
            if spot is None:
                continue
            opened = _put(result, spot, segment)
            if not opened or spot.group is not stack[depth]:
                return state  # an interjection: the groups that are open stay open
            stack[depth + 1 :] = opened
            return self._state((*frames[: depth + 1], *spot.opens))
        late = state.late[segment_id]
        if late:
            opens = late.state.frames[late.keep :]
            leaf = next(c for c in late.state.frames[-1].node.children if c.path == late.leaf_path)
            stack[late.keep :] = _put(result, _Spot(stack[late.keep - 1], opens, leaf), segment)
            return late.state
        for depth in range(len(stack) - 1, -1, -1):
            spot = _headless(stack[depth], frames[depth], segment_id)
            if spot:
                stack[depth + 1 :] = _put(result, spot, segment)
                return self._state((*frames[: depth + 1], *spot.opens))
        taken = next(frame.node for frame in reversed(frames) if segment_id in frame.node.contains)
        result.problems.append(Problem(segment.position, segment_id, _entry(taken, segment_id).leaf.path))
        return state


def _put(result: Arrangement, spot: _Spot, segment: Segment) -> list[Group]:
    """Puts the segment there and gives the groups this opened."""
    group = spot.group
    opened: list[Group] = []
    for frame in spot.opens:
        inner = Group(frame.node.path, group, frame.node.repeats)
        group.members.append(inner)
        opened.append(inner)
        group = inner
    leaf = Leaf(spot.leaf.path, segment, group)
    group.members.append(leaf)
    result.leaves.append(leaf)
    return opened


def _rank(found: tuple[int, int, _Move]) -> tuple[int, int]:
    return found[:2]


def _entry(node: Node, segment_id: str) -> _Entry:
    """The way into a fresh `node` that leaves out the least. `segment_id` must be in it."""
    if node.segment_id:
        return _Entry((), node, (), True, node.repeats)
    best: _Entry | None = None
    for child in node.children:
        if segment_id not in child.contains:
            continue
        below = _entry(child, segment_id)
        left_out = tuple(c for c in node.children[: child.index] if c.required)
        skipped = left_out + below.skipped
        if best is None or len(skipped) < len(best.skipped):
            owed = frozenset() if below.repeating else frozenset(c.index for c in left_out)
            expected = below.expected and (node.required or not left_out)
            repeating = below.repeating or node.repeats
            best = _Entry((_Frame(node, child.index, owed), *below.opens), below.leaf, skipped, expected, repeating)
    assert best is not None
    return best


def _spot(group: Group, node: Node, segment_id: str, cursor: int, inner: Group | None) -> _Spot | None:
    """Step 3: a free place in `group` itself, else in the last of a group in it (`inner`, which is open, was tried).

    No group behind `cursor` is begun: that is step 4.
    """
    for child in sorted(node.children, key=_segments_first):
        if segment_id not in child.contains:
            continue
        present = [member for member in group.members if member.path == child.path]
        if child.segment_id:
            if child.repeats or not present:
                return _Spot(group, (), child)
            continue
        last = present[-1] if present else None
        if isinstance(last, Group) and last is not inner:
            spot = _spot(last, child, segment_id, len(child.children), None)
            if spot:
                return spot
        entry = _entry(child, segment_id)
        if (child.repeats and not entry.skipped) if present else child.index <= cursor:
            return _Spot(group, entry.opens, entry.leaf)
    return None


def _segments_first(node: Node) -> bool:
    return not node.segment_id


def _headless(group: Group, frame: _Frame, segment_id: str) -> _Spot | None:
    """Step 5: one more of a repeating group in `group`, without the beginning that the last one lacks too."""
    for child in frame.node.children[: frame.cursor + 1]:
        if child.segment_id or not child.repeats or segment_id not in child.contains:
            continue
        entry = _entry(child, segment_id)
        last = [member for member in group.members if member.path == child.path][-1:]
        had = {leaf.path for one in last if isinstance(one, Group) for leaf in one.leaves_within()}
        if last and not any(_has_any(had, skipped) for skipped in entry.skipped):
            return _Spot(group, entry.opens, entry.leaf)
    return None


def _has_any(paths: set[str], node: Node) -> bool:
    return any(path == node.path or path.startswith(node.path + ".") for path in paths)
