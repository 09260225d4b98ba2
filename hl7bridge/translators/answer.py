"""One message as a translation answers for it: made, refused, or failed; the same in a process and in a thread.

Sans-IO. Nothing of a message is in it but the bundle: what goes wrong is told by its class and place.
"""

from __future__ import annotations

from hl7bridge import reasons
from hl7bridge.errors import MessageError, PeerError, TranslationError, where
from hl7bridge.hl7v2.header import read_header
from hl7bridge.service.tablesets import Setting, TableSets
from hl7bridge.translation import lineage_document, translate
from hl7bridge.translators.wire import Done, Failed, Refused, Work

Answer = Done | Refused | Failed


def answer(work: Work, tables: TableSets) -> Answer:
    """With the tables in service for this sender, and the lineage where it is to be stored. Raises nothing."""
    version = ""
    setting: Setting | None = None

    def lineage() -> bytes:
        if setting is None or not tables.stores_lineage:
            return b""
        return lineage_document(work.raw, setting.mappings, setting.zone, setting.charset_fallback)

    try:
        setting = tables.setting(work.listener, read_header(work.raw), work.peer)
        version = setting.mappings.version
        made = translate(
            work.raw,
            setting.mappings,
            zone=setting.zone,
            charset_fallback=setting.charset_fallback,
            tokens=setting.tokens,
        )
        issues = {(str(kind), table, source): times for (kind, table, source), times in made.issues.items()}
        return Done(made.bundle, made.entries, version, issues, lineage())
    except MessageError as error:
        peer = isinstance(error, PeerError)
        return Refused(peer, error.reason.code, error.detail, error.location, version, lineage())
    except Exception as error:
        return Failed(where(error), version)


def error_of(said: Refused | Failed) -> MessageError:
    """The exception that the daemon goes on with; it carries the `mapping_version` and the `lineage_document`."""
    if isinstance(said, Failed):
        error: MessageError = TranslationError(reasons.INTERNAL_ERROR, said.where)
    else:
        kind = PeerError if said.peer else TranslationError
        error = kind(reasons.CATALOGUE.get(said.reason, reasons.INTERNAL_ERROR), said.detail, said.location)
        error.lineage_document = said.lineage_document
    error.mapping_version = said.mapping_version
    return error
