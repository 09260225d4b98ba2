"""Which rows touch a field, an element or a code table: for `hl7bridge mappings show`.

Sans-IO: works on tables that are loaded, overlays laid over already, so that what is found is what is in force; each
row still knows the file it stands in.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from hl7bridge.fhir.model import closest
from hl7bridge.mapping.paths import Malformed, parse_ref
from hl7bridge.mapping.schema import FieldValue, Literal_, OptionValue, Path, Place, Ref, Row, Step, Table, TableSet
from hl7bridge.mapping.trace import compared

_LABEL = re.compile(r"#[A-Za-z0-9_-]+|\*")


@dataclass(frozen=True, slots=True)
class Found:
    """One row that touches what was asked for.

    role: `writes`, `reads`, `asks` (in its condition), `unmapped`, `uses` (a message table's row), `links`, `codes` or
    `in R5`; depth: 1 for rows of a data type table that another row names.
    """

    role: str
    table: str
    source: str
    target: str
    how: str
    place: Place
    depth: int = 0


class Unknown(ValueError):
    """Nothing is called so; the text says what was probably meant."""


def show(tables: TableSet, asked: str) -> list[Found]:
    """The rows for `PID-5`, `PID`, `XPN.1`, `Patient.name`, `Patient`, `AdministrativeSex`, `r5/Patient` or a
    table's name.

    Raises Unknown for a name that neither the standard nor the tables have.
    """
    if asked in tables.codes:
        return list(_of_codes(tables, asked))
    for table in (tables.segments.get(asked), tables.datatypes.get(asked)):
        if table is not None:
            return [*_used(tables, table.name), *_rows(tables, table, table.rows, 0), *_reasons(table)]
    if asked in tables.messages:
        return list(_uses(tables, asked))
    if asked.startswith("r5/") and asked.removeprefix("r5/") in tables.r5:
        return list(_in_r5(tables, asked.removeprefix("r5/")))
    try:
        ref = parse_ref(asked)
    except Malformed:
        ref = None
    if ref is not None:
        found = list(_of_field(tables, ref))
        if found or any(table.source == ref.root for table in _all(tables)):
            return found
    found = [*_of_path(tables, asked), *_in_r5(tables, asked)]
    known = {*(_root(table.target) for table in _all(tables)), *tables.r5}
    if not found and asked.partition(".")[0] not in known:
        raise Unknown(f"no field, element or table is called {asked!r}{_hint(tables, asked)}")
    return found


def _hint(tables: TableSet, asked: str) -> str:
    names = (*tables.codes, *tables.segments, *tables.datatypes, *tables.messages)
    names += tuple(dict.fromkeys(_root(table.target) for table in _all(tables)))
    meant = closest(asked.partition(".")[0], names)
    return f"; did you mean {meant!r}?" if meant else ""


def _all(tables: TableSet) -> Iterator[Table]:
    yield from tables.segments.values()
    yield from tables.datatypes.values()


def _root(target: str) -> str:
    return target.partition(".")[0]


# ---- by field ----


def _of_field(tables: TableSet, ref: Ref) -> Iterator[Found]:
    for message in tables.messages.values():
        if not ref.parts:
            yield from (one for one in _uses(tables, message.name) if one.source.rpartition(".")[2] == ref.root)
    for table in _all(tables):
        if table.source == ref.root:
            yield from _rows(tables, table, [row for row in table.rows if _meets(row.source, ref)], 0)
        others = [row for row in table.rows if not (table.source == ref.root and _meets(row.source, ref))]
        for row in others:
            parts = [part for part in row.concat if isinstance(part, Ref)]
            if any(_meets(part, ref) for part in parts):
                yield _found("reads", table, row)
            elif any(_meets(part, ref) for part in compared(row.when)):
                yield _found("asks", table, row)
        if table.source == ref.root:
            yield from (one for one in _reasons(table) if _meets(parse_ref(one.source), ref))


def _meets(one: Ref, other: Ref) -> bool:
    """Whether one of two references is the other or stands in it; a bare segment only meets itself."""
    if one.root != other.root:
        return False
    if not other.parts or not one.parts:
        return not other.parts
    return all(a == b for a, b in zip(one.parts, other.parts, strict=False))


def _rows(tables: TableSet, table: Table, rows: Iterable[Row], depth: int) -> Iterator[Found]:
    for row in rows:
        yield _found("writes", table, row, depth)
        if row.as_ is not None and depth == 0:
            inner = tables.datatypes[row.as_]
            prefix = row.to.text if row.to is not None and row.to.steps else ""
            for part in inner.rows:
                found = _found("writes", inner, part, 1)
                place = f"{prefix}.{found.target}" if prefix and not found.target.startswith("$") else found.target
                yield Found(found.role, found.table, found.source, place, found.how, found.place, 1)


def _reasons(table: Table) -> Iterator[Found]:
    for key, reason in table.unmapped.items():
        yield Found("unmapped", table.name, key, "", reason, table.unmapped_places[key])


def _found(role: str, table: Table, row: Row, depth: int = 0) -> Found:
    return Found(role, table.name, str(row.source), _target(row), _how(row), row.place, depth)


def _target(row: Row) -> str:
    to = row.to.text if row.to is not None else ""
    if not row.extension:
        return to
    urls = ", ".join(url.rpartition("/")[2] for url in row.extension)
    return f"{row.on.text + '.' if row.on else ''}extension({urls}).{to}"


def _how(row: Row) -> str:
    said = [f"as {row.as_}"] if row.as_ else []
    if row.value is not None:
        said.append(f"value {_constant(row.value)}")
    if row.concat:
        said.append("concat " + " + ".join(f'"{p.text}"' if isinstance(p, Literal_) else str(p) for p in row.concat))
    said += [f"{word} {value}" for word, value in (("apply", row.apply), ("codes", row.codes)) if value]
    said += [f"set {path.text}: {_constant(value)}" for path, value in row.set_]
    if row.when_text:
        said.append(f"when {row.when_text}")
    if row.option is not None:
        said.append(f"option {row.option.name} = {row.option.value}")
    return "; ".join(said)


def row_text(row: Row) -> str:
    """A row in one line: where it writes and how."""
    return "; ".join(part for part in (_target(row), _how(row)) if part)


def _constant(value: str | OptionValue | FieldValue) -> str:
    if isinstance(value, FieldValue):
        return f"{{field: {value.ref}{f', apply: {value.apply}' if value.apply else ''}}}"
    return f"{{option: {value.name}}}" if isinstance(value, OptionValue) else value


# ---- by element ----


def _of_path(tables: TableSet, asked: str) -> Iterator[Found]:
    """Rows that write at, below or above the element, in tables whose target is its type; links that do."""
    type_, _, wanted = asked.partition(".")
    for table in _all(tables):
        start = table.target.partition(".")[2]
        for row in table.rows:
            written = [path for path in _written(row, start) if _root(table.target) == type_]
            behind = [path for resource, path in _behind(row) if resource == type_]
            if any(_alike(path, wanted) for path in (*written, *behind)):
                yield _found("writes", table, row)
                if row.as_ is not None and table.kind == "segment":
                    prefix = next((p for p in (*written, *behind) if _alike(p, wanted)), "")
                    yield from _inside(tables.datatypes[row.as_], prefix, wanted)
    for message in tables.messages.values():
        for use in message.uses:
            for link in use.links:
                on = link.on or use.into
                if on.type == type_ and _alike(_plain(link.path), wanted):
                    how = f"when {use.when_text}" if use.when_text else ""
                    yield Found("links", message.name, use.segment, f"{link.path.text} -> {link.to}", how, link.place)


def _in_r5(tables: TableSet, asked: str) -> Iterator[Found]:
    """What the tables for R5 say of the element, by its name in R4 or in R5."""
    type_, _, wanted = asked.partition(".")
    table = tables.r5.get(type_)
    if table is None:
        return
    said: list[tuple[str, str, str, str]] = []  # the word, what stands there, where it goes, how
    for path, move in table.difference.moves.items():
        how = [f"set {'.'.join(to)}: {text}" for to, text in move.set_.items()]
        how += [f"system {move.system}"] if move.system else []
        said.append(("moves", ".".join(path), ".".join(move.to) or "extension", "; ".join(how)))
    for path, codes in table.difference.codes.items():
        how_codes = ", ".join(f"{code}: {new}" for code, new in codes.items())
        said.append(("codes", ".".join(path), ".".join(table.difference.home(path)), how_codes))
    for word, texts in (("adds", table.difference.adds), ("otherwise", table.difference.otherwise)):
        said += [(word, ".".join(path), ".".join(path), text) for path, text in texts.items()]
    said += [("absent", ".".join(path), ".".join(path), "unknown") for path in sorted(table.difference.absent)]
    said += [("extensions", url, new, "") for url, new in table.difference.extensions.items()]
    for word, source, target, how_ in said:
        if _alike(source, wanted) or _alike(target, wanted) or (word == "extensions" and not wanted):
            short = source.rpartition("/")[2] if word == "extensions" else source
            place = table.places.get((word, source)) or table.places.get((word, short), table.place)
            yield Found(
                "in R5", f"r5/{type_}", source, f"{type_}.{target}" if word != "extensions" else target, how_, place
            )


def _inside(table: Table, prefix: str, wanted: str) -> Iterator[Found]:
    """The rows of a data type table that fill the element, seen from the resource."""
    for row in table.rows:
        path = _plain(row.to) if row.to is not None else ""
        if row.extension:
            path = _LABEL.sub("", _target(row))
        whole = f"{prefix}.{path}" if path else prefix
        if _alike(whole, wanted):
            yield Found("writes", table.name, str(row.source), whole, _how(row), row.place, 1)


def _written(row: Row, start: str) -> list[str]:
    """The elements a row writes to, labels left out."""
    paths = [_plain(row.on) if row.on is not None else _plain(row.to) if row.to is not None else ""]
    if not row.extension:
        paths += [_plain(path) for path, _ in row.set_]
    return [f"{start}.{path}".strip(".") for path in paths]


def _plain(path: Path) -> str:
    return ".".join(step.name for step in path.steps)


def _behind(row: Row) -> Iterator[tuple[str, str]]:
    """Resources that a row makes behind a reference, and the path in them."""
    for path in (row.to, *(path for path, _ in row.set_)):
        yield from _steps_behind(path.steps if path is not None else ())


def _steps_behind(steps: tuple[Step, ...]) -> Iterator[tuple[str, str]]:
    for step in steps:
        if step.resource is not None:
            yield step.resource, ".".join(inner.name for inner in step.inner)
            yield from _steps_behind(step.inner)


def _alike(path: str, wanted: str) -> bool:
    """At, below or above: `name` and `name.family` are alike, `name` and `names` are not. Nothing wanted: all."""
    wanted = _LABEL.sub("", wanted)
    return (
        not wanted or path == wanted or path.startswith(f"{wanted}.") or (path != "" and wanted.startswith(f"{path}."))
    )


# ---- by table ----


def _of_codes(tables: TableSet, name: str) -> Iterator[Found]:
    """The rows that use a code table, then what it maps."""
    for table in _all(tables):
        yield from (_found("uses", table, row) for row in table.rows if row.codes == name)
    codes = tables.codes[name]
    for key, code in codes.map.items():
        how = " ".join(part for part in (code.system, f'"{code.display}"' if code.display else "") if part)
        yield Found("codes", name, key, code.code, how, codes.places.get(key, codes.place))
    yield Found("codes", name, "otherwise", codes.otherwise, "", codes.otherwise_place or codes.place)


def _used(tables: TableSet, name: str) -> Iterator[Found]:
    """Who uses a table: message tables, and rows with `as`."""
    for message in tables.messages.values():
        yield from (one for one in _uses(tables, message.name) if one.how.split(";")[0] == f"use {name}")
    for table in _all(tables):
        yield from (_found("uses", table, row) for row in table.rows if row.as_ == name)


def _uses(tables: TableSet, name: str) -> Iterator[Found]:
    for use in tables.messages[name].uses:
        how = f"use {use.table}" + (f"; when {use.when_text}" if use.when_text else "")
        if use.option is not None:
            how += f"; option {use.option.name} = {use.option.value}"
        yield Found("uses", name, use.segment, str(use.into), how, use.place)
