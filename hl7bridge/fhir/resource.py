"""A FHIR resource while it is being built, and the references between such resources.

Sans-IO. A reference is a dictionary in some body; who it points to is kept beside it until the bundle is laid out,
because only then is it known which resources exist and what their identities are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

Body = dict[str, Any]


class Number(str):
    """A decimal by its digits: it is written as a JSON number just as it was sent, 7.50 stays 7.50."""

    __slots__ = ()


class Resource:
    """type and body; `has_content` is true once a value of the message stands in it (constants alone make no resource).

    `position`: absolute position of the segment that made it (1-based), for identities that need one.
    """

    __slots__ = ("body", "full_url", "has_content", "lookup", "position", "type")

    def __init__(self, type: str, position: int) -> None:
        self.type = type
        self.body: Body = {}
        self.has_content = False
        self.position = position
        self.lookup: Callable[[str], str] | None = None  # a v2 field seen from where the resource was made: OBR-3
        self.full_url = ""

    def __repr__(self) -> str:
        return f"<{self.type} from segment {self.position}>"


@dataclass(slots=True)
class Reference:
    """`holder` is the Reference element in a body of `owner`; `to` the resource it means.

    `linked`: written by a message table's `link`, so that it alone does not make its owner worth having.
    """

    holder: Body
    to: Resource
    owner: Resource
    linked: bool = False
