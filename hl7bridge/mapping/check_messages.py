"""Judges message tables: events, the segments of the structure, what the uses make, labels and links."""

from __future__ import annotations

from hl7bridge.fhir.model import Model
from hl7bridge.hl7v2.structure import Structure
from hl7bridge.mapping.check_refs import RefCheck
from hl7bridge.mapping.check_rows import RowCheck
from hl7bridge.mapping.schema import Label, Link, MessageTable, Place, TableSet, Use
from hl7bridge.mapping.source import Mistakes
from hl7bridge.mapping.walk import Walker, article, did_you_mean, listed


class MessageCheck:
    def __init__(self, tables: TableSet, model: Model, mistakes: Mistakes, broken: frozenset[str]) -> None:
        self.tables = tables
        self.model = model
        self.mistakes = mistakes
        self.broken = broken
        self.walker = Walker(model, mistakes)
        self.refs = RefCheck(mistakes)
        self.rows = RowCheck(tables, model, mistakes, broken)

    def check(self) -> None:
        self._events()
        self._shared()
        for message in self.tables.messages.values():
            structure = _readable(message.structure)
            if structure is not None:
                self._message(message, structure)

    def _events(self) -> None:
        claimed: dict[tuple[str, str], MessageTable] = {}
        for message in self.tables.messages.values():
            for event in message.events:
                before = claimed.setdefault((message.code, event), message)
                if before is not message:
                    self.mistakes.add(
                        message.place, f"{message.code}^{event} belongs to {before.name} ({before.place}) already"
                    )
                elif message.events.count(event) > 1:
                    self.mistakes.add(message.place, f"the event {event} stands twice")

    def _shared(self) -> None:
        """Every shared row, reason and link has a place in one of the messages that share it, or it says nothing."""
        for shared in self.tables.shared.values():
            sharing = [message for message in self.tables.messages.values() if shared.name in message.shares]
            structures = [s for message in sharing if (s := _readable(message.structure)) is not None]
            if not structures:
                continue
            keys = {**{use.segment: use.place for use in shared.uses}, **shared.unmapped_places}
            for key, place in keys.items():
                if not any(structure.ends(key) for structure in structures):
                    hint = did_you_mean(key, {name: None for s in structures for name in _short(s)})
                    self.mistakes.add(place, f"no message that shares {shared.name!r} has a {key}{hint}")
                several = next((found for s in structures if len(found := s.ends(key)) > 1), None)
                if several:
                    self.mistakes.add(place, f"{key} may be any of {', '.join(several)}")
            made = {use.into for message in sharing for use in message.uses}
            known = {str(label): None for label in made}
            for link in (link for use in shared.uses for link in use.links):
                for label in (link.on, link.to):
                    if label is not None and label not in made:
                        hint = did_you_mean(str(label), known)
                        self.mistakes.add(
                            link.place, f"`link`: no message that shares {shared.name!r} makes {label}{hint}"
                        )

    def _message(self, message: MessageTable, structure: Structure) -> None:
        parted = frozenset(use.into for use in message.uses if use.each) - {u.into for u in message.uses if not u.each}
        for use in message.uses:
            self._use(use)
            self._each(use, parted)
        self._writes(message)
        scopes = self._scopes(message, structure)
        for use in message.uses:
            for link in use.links:
                self._link(link, use, scopes, structure)
        files = {message.place.file, *(self.tables.shared[name].place.file for name in message.shares)}
        if files.isdisjoint(self.broken):
            self._coverage(message, structure)

    def _use(self, use: Use) -> None:
        segment = segment_of(use.segment)
        self.rows.option(use.option, use.place)
        if use.when is not None:
            self.refs.condition(use.when, use.place, None)
        for ref in use.lines.refs if use.lines is not None else ():
            self.refs.ref(ref, use.place, "`lines`: ")
            if ref.root != segment:
                self.mistakes.add(use.place, f"`lines`: {ref} is no field of {segment}")
        if use.lines is not None and use.lines.when is not None:
            self.refs.condition(use.lines.when, use.place, None)
        if not self.model.is_resource(use.into.type):
            meant = self.model.suggest_type(use.into.type, resources_only=True)
            hint = f"; did you mean {meant!r}?" if meant else ""
            self.mistakes.add(use.place, f"there is no resource type {use.into.type!r} in FHIR R4{hint}")
            return
        table = self.tables.segments.get(use.table)
        if table is None:
            if not any(file.endswith(f"/{use.table}.yaml") for file in self.broken):
                hint = did_you_mean(use.table, self.tables.segments)
                self.mistakes.add(use.place, f"there is no segment table {use.table!r}{hint}")
            return
        self._known_by(use)
        if table.source != segment:
            self.mistakes.add(use.place, f"{use.table} reads {table.source}, and the row is for {segment}")
        if table.target != use.into.type:
            self.mistakes.add(
                use.place, f"{use.table} makes {article(table.target)}, and `into` names {article(use.into.type)}"
            )

    def _each(self, use: Use, parted: frozenset[Label]) -> None:
        """`each` names a field of the row's own segment; another row cannot tell which of its resources is meant."""
        if use.each is None:
            for link in use.links:
                if parted and {link.to, link.on} & parted:
                    label = link.to if link.to in parted else link.on
                    self.mistakes.add(
                        link.place, f"`link`: {label} is made by `each`, and this row is not: which is meant?"
                    )
            return
        segment = segment_of(use.segment)
        if use.each.root != segment or len(use.each.parts) != 1:
            self.mistakes.add(
                use.place, f"`each` is a field of {segment} that repeats, like {segment}-1, not {use.each}"
            )
        else:
            self.refs.ref(use.each, use.place, "`each`: ")

    def _known_by(self, use: Use) -> None:
        """`finds` needs an identifier that repeats, `undo` a list whose parts have ids."""
        element = self.model.element(use.into.type, "identifier")
        if use.finds and (element is None or not element.many):
            self.mistakes.add(
                use.place, f"`finds`: {article(use.into.type)} is not found by one of several identifiers"
            )
        identity = self.tables.identities.get(use.into.type)
        if use.undo and not any("id" in keys for keys in (identity.keys.values() if identity else ())):
            self.mistakes.add(
                use.place,
                f"`undo` takes parts of a list away again, and identity.yaml tells none of {use.into.type} apart by id",
            )

    def _writes(self, message: MessageTable) -> None:
        """A resource is written in one way: rows that always apply agree, and what is patched can be found again."""
        settings = self.tables.settings
        said: dict[Label, Use] = {}
        for use in message.uses:
            if not use.write:
                continue
            elements = self.model.elements(use.into.type)
            if elements and use.write != "replace" and "identifier" not in elements:
                self.mistakes.add(
                    use.place, f"{use.into.type} has no identifier: it is written whole, never by `write: {use.write}`"
                )
            if use.when is not None or (use.option and settings.get(use.option.name) != use.option.value):
                continue
            before = said.setdefault(use.into, use)
            if before.write != use.write:
                self.mistakes.add(
                    use.place,
                    f"{use.into} is written by `{use.write}` here and by `{before.write}` in {before.place}: "
                    "one resource is written in one way",
                )

    def _scopes(self, message: MessageTable, structure: Structure) -> dict[Label, str | None]:
        """The repeating group or segment that each label belongs to; None: the whole message."""
        made: dict[Label, list[str]] = {}
        for use in message.uses:
            if use.segment in structure.nodes:
                made.setdefault(use.into, []).append(use.segment)
        return {label: structure.innermost_repeating(paths) for label, paths in made.items()}

    def _link(self, link: Link, use: Use, scopes: dict[Label, str | None], structure: Structure) -> None:
        for label in (link.on, link.to):
            if label is not None and not self._visible(label, link.place, use, scopes, bool(link.match)):
                return
        for ours, theirs in link.match:
            self.refs.ref(ours, link.place, "`match`: ")
            self.rows.field_value(theirs, None, link.place, "`match`: ")
        root = (link.on or use.into).type
        landing = self.walker.path(root, link.path)
        if landing is None:
            return
        where = f"{root}.{link.path.text}"
        if landing.element is None or not landing.element.is_resource_reference:
            self.mistakes.add(link.place, f"`link`: {where} is {article(landing.type)} and no reference")
        elif landing.element.targets and link.to.type not in landing.element.targets:
            leads = listed(landing.element.targets)
            self.mistakes.add(link.place, f"`link`: {where} leads to {leads}, not to {article(link.to.type)}")

    def _visible(
        self, label: Label, place: Place, use: Use, scopes: dict[Label, str | None], matched: bool = False
    ) -> bool:
        if label not in scopes:
            known = {str(made): None for made in scopes}
            self.mistakes.add(place, f"`link`: no row makes {label}{did_you_mean(str(label), known)}")
            return False
        scope = scopes[label]
        if matched or scope is None or use.segment == scope or use.segment.startswith(scope + "."):
            return True
        self.mistakes.add(
            place,
            f"`link`: {label} belongs to each {scope}, and {use.segment} stands outside: which one is meant?",
        )
        return False

    def _coverage(self, message: MessageTable, structure: Structure) -> None:
        """Every segment of the structure is read, or said not to be (alone or with its group)."""
        read = {use.segment for use in message.uses}
        for key in message.unmapped:
            if key in read:
                place = message.unmapped_places.get(key, message.place)
                self.mistakes.add(place, f"{key} stands in `unmapped` and in `rows`: it is one or the other")
        said = tuple(message.unmapped)
        missing = [
            path
            for path, node in structure.nodes.items()
            if not node.children
            and path not in read
            and not any(path == key or path.startswith(key + ".") for key in said)
        ]
        if missing:
            stand = "stands" if len(missing) == 1 else "stand"
            self.mistakes.add(
                message.place,
                f"{listed(missing, 'and')} of the structure {stand} neither in `rows` nor in `unmapped`",
            )


def _readable(text: str) -> Structure | None:
    try:
        return Structure(text)
    except ValueError:
        return None  # named when it was read


def _short(structure: Structure) -> set[str]:
    """How a row may call the nodes of a structure: alone, and with the group around."""
    names = [path.split(".") for path in structure.nodes]
    return {".".join(steps[-count:]) for steps in names for count in (1, 2)}


def segment_of(path: str) -> str:
    """The segment id at the end of a path in a structure: PATIENT_RESULT.ORDER_OBSERVATION.OBR -> OBR."""
    return path.rpartition(".")[2].partition("@")[0]
