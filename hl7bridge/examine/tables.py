"""Tables: do those that a start serves load, and are they those of the configuration's folders?"""

from __future__ import annotations

from collections.abc import Iterator

from hl7bridge.config import Config
from hl7bridge.errors import Hl7BridgeError
from hl7bridge.examine.finding import Finding


def tables(config: Config) -> Iterator[Finding]:
    """The tables that a start serves: the active version, or the configuration's folders; and whether they differ."""
    from hl7bridge.service.activation import served, told
    from hl7bridge.service.versions import Versions

    store = Versions(config.journal.path)
    try:
        active = store.active()
        ready = served(config, store, active) if active is not None else None
    except Hl7BridgeError as error:
        yield _unfit("active tables", error, "`hl7bridge mappings versions` lists others; `mappings activate VERSION`")
        return
    found = list(_folders(config))
    if active is None or ready is None:
        yield from found
        return
    told_ = f"{len(ready.tables.types)} events, {told(ready.version.id, active)}; they decide, not the folders"
    yield Finding("ok", "tables", told_)
    now = {mappings.version for mappings in ready.tables.sets.values()}
    if any(finding.grade == "FAIL" for finding in found):
        remedy = "nothing is served from them; mend them before the next `hl7bridge mappings activate`"
        yield Finding("warn", "tables", "the configuration's folders do not load", remedy)
    elif not all(any(version in finding.text for version in now) for finding in found):
        remedy = "`hl7bridge mappings activate` takes them; `hl7bridge diff --old active` shows what that changes"
        yield Finding("warn", "tables", "the configuration's folders hold other tables", remedy)


def _folders(config: Config) -> Iterator[Finding]:
    from hl7bridge.service.tablesets import load, wanted

    for folders in wanted(config):
        subject = "tables" + (f" with {', '.join(folders)}" if folders else "")
        try:
            mappings = load(config, folders)
        except Hl7BridgeError as error:
            yield _unfit(subject, error, "`hl7bridge mappings check` names every mistake")
        else:
            yield Finding("ok", subject, f"{len(mappings.events)} events, version {mappings.version}")


def _unfit(subject: str, error: Hl7BridgeError, remedy: str) -> Finding:
    first, *rest = str(error).splitlines()
    return Finding("FAIL", subject, first + (f" (and {len(rest)} more)" if rest else ""), remedy)
