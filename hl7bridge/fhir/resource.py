"""A FHIR resource while it is being built, and the references between such resources.

Sans-IO. A reference is a dictionary in some body; who it points to is kept beside it until the bundle is laid out,
because only then is it known which resources exist and what their identities are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hl7bridge.fhir.identity import Identifier

Body = dict[str, Any]


Held = tuple[str, Body, int]  # the body's element that a Reference is or is in, the Reference, its id()


class Number(str):
    """A decimal by its digits: it is written as a JSON number just as it was sent, 7.50 stays 7.50.

    Never equal to a text.
    """

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return other.__class__ is Number and str.__eq__(self, other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    __hash__ = str.__hash__


class Erasure(NamedTuple):
    """An element that is to go: names from the resource down, and, in a list, what the parts meant say.

    `said`: a row of the tables takes it away, whatever another wrote there; otherwise the sender deleted it with `""`,
    which only a patch has to say.
    """

    path: tuple[str, ...]
    where: tuple[tuple[str, str], ...] = ()
    said: bool = False


class Resource:
    """type and body; `has_content` is true once a value of the message stands in it (constants alone make no resource).

    `position`: absolute position of the segment that made it (1-based), for identities that need one. `write`: how the
    message table says it is written, "" where it says nothing. `fillers`: elements that only fill what FHIR requires
    (status unknown): created, never patched. `known_by`: the identifiers a server knows it by, where it has others now.
    `undone`: what was said of it earlier and is taken back.

    Laying out fills in: `holders`, the Reference elements that stay in the body; `identity`; `full_url`.
    """

    __slots__ = (
        "body",
        "erased",
        "fillers",
        "full_url",
        "has_content",
        "holders",
        "identity",
        "known_by",
        "lookup",
        "position",
        "type",
        "undone",
        "write",
    )

    def __init__(self, type: str, position: int) -> None:
        self.type = type
        self.body: Body = {}
        self.has_content = False
        self.position = position
        self.lookup: Callable[[str], str] | None = None  # a v2 field seen from where the resource was made: OBR-3
        self.holders: list[Held] | None = None
        self.identity: Identifier | None = None
        self.full_url = ""
        self.write = ""
        self.known_by: list[Body] = []
        self.undone: Resource | None = None
        self.erased: list[Erasure] = []
        self.fillers: set[tuple[str, ...]] = set()

    def to_undo(self) -> Resource:
        """Where what is to be taken away again is written, made when first asked for."""
        if self.undone is None:
            self.undone = Resource(self.type, self.position)
        return self.undone

    def __repr__(self) -> str:
        return f"<{self.type} from segment {self.position}>"


class Reference:
    """`holder` is the Reference element in a body of `owner`; `to` the resource it means.

    `key`: the holder's id(), by which it is looked up. `linked`: written by a message table's `link`, so that it alone
    does not make its owner worth having.
    """

    __slots__ = ("holder", "key", "linked", "owner", "to")

    def __init__(self, holder: Body, to: Resource, owner: Resource, linked: bool = False) -> None:
        self.holder = holder
        self.key = id(holder)
        self.to = to
        self.owner = owner
        self.linked = linked
