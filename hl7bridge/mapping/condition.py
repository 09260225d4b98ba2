"""Reads and prints the conditions of `when:`, eight predicates joined by and, or and brackets.

Sans-IO. Grammar (docs/mapping-reference.md#conditions):

    condition = both { "or" both }            both = one { "and" one }
    one       = "(" condition ")" | REF [ "not" ] "valued" | REF ( "=" | "!=" ) ( VALUE | REF )
              | REF [ "not" ] "in" "[" VALUE { "," VALUE } "]" | ( "count" | "length" ) "(" REF ")" OPERATOR NUMBER

A bare value has letters, digits, `.`, `-`, `_`; any other stands in double quotes. A bare word that is a field
(`PID-12`) is a field, not a value. Malformed text is a ValueError (paths.Malformed) with the column and what was meant.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, cast, get_args

from hl7bridge.mapping.paths import Malformed, is_ref, parse_ref
from hl7bridge.mapping.schema import All, Any, Compare, Condition, Measure, Ref, Valued

Operator = Literal["<", "<=", ">", ">=", "=", "!="]

_TOKEN = re.compile(r'\s*(?:("[^"]*")|([A-Za-z0-9._-]+)|(!=|<=|>=|==|<>|&&|\|\||[=<>()\[\],!~]))')
_BARE = re.compile(r"[A-Za-z0-9._-]+")
_RESERVED = frozenset(("and", "or", "not", "in", "valued"))
_MEANT = {
    "==": "=",
    "<>": "!=",
    "&&": "and",
    "||": "or",
    "!": "not valued` or `!=",
    "is": "valued` or `=",
    "exists": "valued",
    "present": "valued",
    "empty": "not valued",
    "null": "not valued",
    "notvalued": "not valued",
    "isvalued": "valued",
    "equals": "=",
    "eq": "=",
    "ne": "!=",
    "contains": "in [..]",
    "value": "valued",
    "values": "valued",
    "unvalued": "not valued",
}
_MAX_DEPTH = 50  # brackets in brackets: far above any real condition, far below Python's recursion limit


@dataclass(frozen=True, slots=True)
class _Token:
    text: str  # without quotes
    column: int
    quoted: bool = False


@lru_cache(maxsize=4096)
def parse_condition(text: str) -> Condition:
    """The condition a text means. Raises ValueError: what is wrong, at which character, what was probably meant."""
    return _Parser(_tokens(text), len(text) + 1).whole()


def _tokens(text: str) -> list[_Token]:
    found: list[_Token] = []
    at = 0
    end = len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            column = at + len(text[at:]) - len(text[at:].lstrip()) + 1
            if text[column - 1] == '"':
                raise Malformed(column, 'a value is not closed by "')
            raise Malformed(column, f"unexpected {text[column - 1]!r}; other values stand in double quotes")
        start = match.start(match.lastindex or 0)
        word = match[match.lastindex or 0]
        found.append(_Token(word.strip('"'), start + 1, True) if match[1] else _Token(word, start + 1))
        at = match.end()
    return found


class _Parser:
    """Recursive descent over the tokens; `end` is the column after the text."""

    def __init__(self, tokens: list[_Token], end: int) -> None:
        self._tokens = tokens
        self._at = 0
        self._end = end
        self._depth = 0

    def whole(self) -> Condition:
        if not self._tokens:
            raise Malformed(1, "the condition is empty")
        condition = self._either()
        if (token := self._peek()) is not None:
            raise Malformed(token.column, f"expected `and` or `or`, found {token.text!r}{_meant(token, ('and', 'or'))}")
        return condition

    def _either(self) -> Condition:
        parts = [self._both()]
        while self._take("or"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Any(tuple(parts))

    def _both(self) -> Condition:
        parts = [self._one()]
        while self._take("and"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else All(tuple(parts))

    def _one(self) -> Condition:
        if self._take("("):
            self._depth += 1
            if self._depth > _MAX_DEPTH:
                raise Malformed(self._column(), "too many brackets in brackets")
            condition = self._either()
            self._expect(")", "to close the bracket")
            self._depth -= 1
            return condition
        token = self._next("a field, count( ), length( ) or ( )")
        following = self._peek()
        if token.text in ("count", "length") and following is not None and following.text == "(":
            return self._measure(cast(Literal["count", "length"], token.text))
        return self._predicate(self._ref(token))

    def _predicate(self, ref: Ref) -> Condition:
        token = self._next(f"`valued`, `=`, `!=`, `in` after {ref}")
        negated = token.text == "not" and not token.quoted
        if negated:
            token = self._next("`valued` or `in` after not")
        if token.quoted or token.text not in ("valued", "in", "=", "!=") or (negated and token.text in ("=", "!=")):
            allowed = ("valued", "in") if negated else ("valued", "not valued", "=", "!=", "in", "not in")
            listed = ", ".join(f"`{word}`" for word in allowed)
            raise Malformed(
                token.column, f"after {ref} expected {listed}, found {token.text!r}{_meant(token, allowed)}"
            )
        if token.text == "valued":
            return Valued(ref, negated)
        if token.text == "in":
            return Compare(ref, self._list(), negated)
        return self._compare(ref, token.text == "!=")

    def _compare(self, ref: Ref, negated: bool) -> Compare:
        token = self._next("a value")
        if not token.quoted and is_ref(token.text):
            return Compare(ref, (), negated, parse_ref(token.text, token.column))
        if token.text == "[" and not token.quoted:
            raise Malformed(token.column, "several values are compared with `in [..]`")
        return Compare(ref, (self._value(token),), negated)

    def _list(self) -> tuple[str, ...]:
        self._expect("[", "after in")
        values = [self._value(self._next("a value"))]
        while self._take(","):
            values.append(self._value(self._next("a value")))
        self._expect("]", "or , after a value")
        return tuple(values)

    def _value(self, token: _Token) -> str:
        if not token.quoted and (_BARE.fullmatch(token.text) is None or token.text in _RESERVED):
            raise Malformed(token.column, f"expected a value, found {token.text!r}; such values stand in double quotes")
        if not token.text:
            raise Malformed(token.column, 'nothing is equal to ""; did you mean `not valued`?')
        return token.text

    def _measure(self, kind: Literal["count", "length"]) -> Measure:
        self._expect("(", f"after {kind}")
        ref = self._ref(self._next("a field"))
        self._expect(")", "after the field")
        operator = self._next("a comparison")
        if operator.quoted or operator.text not in get_args(Operator):
            raise Malformed(
                operator.column,
                f"after {kind}({ref}) expected < <= > >= = !=, found {operator.text!r}{_meant(operator, ())}",
            )
        number = self._next("a number")
        if not number.text.isascii() or not number.text.isdigit() or len(number.text) > 9:
            raise Malformed(number.column, f"expected a number, found {number.text!r}")
        return Measure(kind, ref, cast(Operator, operator.text), int(number.text))

    def _ref(self, token: _Token) -> Ref:
        if token.quoted:
            raise Malformed(token.column, "a predicate starts with a field, like PID-5 valued")
        return parse_ref(token.text, token.column)

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _column(self) -> int:
        token = self._peek()
        return token.column if token else self._end

    def _next(self, expected: str) -> _Token:
        token = self._peek()
        if token is None:
            raise Malformed(self._end, f"the condition ends too early: expected {expected}")
        self._at += 1
        return token

    def _take(self, text: str) -> bool:
        token = self._peek()
        if token is None or token.quoted or token.text != text:
            return False
        self._at += 1
        return True

    def _expect(self, text: str, why: str) -> None:
        if not self._take(text):
            token = self._peek()
            found = f", found {token.text!r}" if token else ""
            raise Malformed(self._column(), f"expected {text} {why}{found}")


def _meant(token: _Token, allowed: tuple[str, ...]) -> str:
    lowered = token.text.lower()
    meant = lowered if lowered in allowed and lowered != token.text else _MEANT.get(lowered, "")
    return f"; did you mean `{meant}`?" if meant else ""


def print_condition(condition: Condition) -> str:
    """The text that reads back as the same condition."""
    if isinstance(condition, Any):
        return " or ".join(_bracketed(part, Any) for part in condition.parts)
    if isinstance(condition, All):
        return " and ".join(_bracketed(part, Any, All) for part in condition.parts)
    if isinstance(condition, Valued):
        return f"{condition.ref} {'not ' * condition.negated}valued"
    if isinstance(condition, Measure):
        return f"{condition.kind}({condition.ref}) {condition.operator} {condition.number}"
    if condition.other is not None:
        return f"{condition.ref} {'!' * condition.negated}= {condition.other}"
    if len(condition.values) == 1:
        return f"{condition.ref} {'!' * condition.negated}= {_quoted(condition.values[0])}"
    return f"{condition.ref} {'not ' * condition.negated}in [{', '.join(map(_quoted, condition.values))}]"


def _bracketed(condition: Condition, *kinds: type) -> str:
    text = print_condition(condition)
    return f"({text})" if isinstance(condition, kinds) else text


def _quoted(value: str) -> str:
    plain = _BARE.fullmatch(value) is not None and not is_ref(value) and value not in _RESERVED
    return value if plain else f'"{value}"'


def refs_of(condition: Condition) -> tuple[Ref, ...]:
    """Every reference a condition makes, in its order."""
    if isinstance(condition, (All, Any)):
        return tuple(ref for part in condition.parts for ref in refs_of(part))
    if isinstance(condition, Compare) and condition.other is not None:
        return (condition.ref, condition.other)
    return (condition.ref,)


def measures_of(condition: Condition) -> tuple[Measure, ...]:
    """Every count( ) and length( ) of a condition."""
    if isinstance(condition, (All, Any)):
        return tuple(measure for part in condition.parts for measure in measures_of(part))
    return (condition,) if isinstance(condition, Measure) else ()
