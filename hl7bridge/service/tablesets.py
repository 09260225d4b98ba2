"""Which tables a message gets: the shipped ones (or mappings.path) with the overlays of all, listener and sender.

Each distinct list of overlays is loaded and compiled once, whoever uses it. A TableSets never changes: new tables are a
new one, and `InService` lets it take the place of the old in one step. A message asks once, so it has one version.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import tzinfo
from typing import TYPE_CHECKING, Any

from hl7bridge import config as configuration
from hl7bridge import zone
from hl7bridge.admission import Events, events_of, sender_of
from hl7bridge.config import Config, Listener, Sender
from hl7bridge.errors import ConfigError
from hl7bridge.hl7v2.header import Header
from hl7bridge.mapping.mappings import Mappings, load_mappings
from hl7bridge.reasons import Reason

if TYPE_CHECKING:
    from hl7bridge.fhir.tokens import Tokens

Folders = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Setting:
    """What translating a sender's messages needs. `zone` None: the tables' own; `charset_fallback` None: refuse.

    `tokens`: what replaces identifiers; None: they go as they are.
    """

    mappings: Mappings
    zone: tzinfo | None
    charset_fallback: str | None
    tokens: Tokens | None = None


def wanted(config: Config) -> list[Folders]:
    """Every list of overlays in use, the general one first; without what stands for all of them."""
    found: dict[Folders, None] = {config.mappings.overlays: None}
    for listener in config.listeners:
        for sender in (None, *listener.senders):
            found[overlays(config, listener, sender)] = None
    return list(found)


def overlays(config: Config, listener: Listener, sender: Sender | None = None) -> Folders:
    """The folders laid over the tables, later ones over earlier ones."""
    return (*config.mappings.overlays, *listener.overlays, *(sender.overlays if sender else ()))


def load(config: Config, folders: Folders) -> Mappings:
    """One set. Raises TablesError with every mistake."""
    base = () if config.mappings.path is None else (config.mappings.path,)
    shipped = config.mappings.path is None
    return load_mappings(*base, *folders, shipped=shipped, settings=config.mappings.options)


class TableSets:
    """All sets of a configuration, and the choice for one message."""

    def __init__(self, config: Config, source: Callable[[Folders], Mappings] | None = None) -> None:
        """Loads and compiles; takes seconds. `source`: in place of the configuration's folders. Raises TablesError."""
        self._config = Config(
            listeners=config.listeners, mappings=config.mappings, translate=config.translate, tokens=config.tokens
        )
        self.stores_lineage = config.translate.lineage == "stored"
        tokens = open_tokens(config.tokens)
        self.sets = {folders: source(folders) if source else load(config, folders) for folders in wanted(config)}
        self.general = Setting(self.sets[config.mappings.overlays], None, None, tokens)
        self._listeners = {listener.name: listener for listener in config.listeners}
        self._settings = {
            (listener.name, sender): _setting(self.sets[overlays(config, listener, sender)], listener, sender, tokens)
            for listener in config.listeners
            for sender in (None, *listener.senders)
        }

    def __reduce__(self) -> tuple[Any, ...]:
        """Sent to another process: the same tables for the same listeners."""
        return _again, (self._config, self.sets)

    @property
    def version(self) -> str:
        """The version of the general set; sites with several see all in the log of the start."""
        return self.general.mappings.version

    @property
    def types(self) -> frozenset[str]:
        """`ADT^A01` … of all sets."""
        return frozenset(f"{code}^{event}" for found in self.sets.values() for code, event in found.events)

    def events(self, listener: Listener) -> frozenset[tuple[str, str]]:
        """(message_code, trigger_event) pairs that the tables of one of the listener's senders handle."""
        choices = (None, *listener.senders)
        return frozenset().union(*(self._settings[listener.name, one].mappings.events for one in choices))

    def versions(self, listener: Listener) -> list[str]:
        """The mapping versions that messages of a listener may get, each once."""
        choices = (None, *listener.senders)
        return list(dict.fromkeys(self._settings[listener.name, one].mappings.version for one in choices))

    def setting(self, listener: str, header: Header, peer: str = "") -> Setting:
        """For a message that came in by `listener` from `peer`. A listener no longer configured: the general set."""
        place = self._listeners.get(listener)
        return self._settings[listener, sender_of(header, place, peer)] if place is not None else self.general


def _again(config: Config, sets: dict[Folders, Mappings]) -> TableSets:
    return TableSets(config, sets.__getitem__)


def open_tokens(keys: configuration.Tokens) -> Tokens | None:
    """What replaces identifiers, by the configuration. Raises ConfigError, which never holds a key."""
    if keys.key is None:
        return None
    from hl7bridge.fhir.tokens import Tokens  # loads cryptography: only where it is wanted
    from hl7bridge.sealing import key_of

    reference = keys.key.get_secret_value()
    try:
        return Tokens(key_of(configuration.secret(reference)), keys.types, keys.systems)
    except ConfigError as error:
        raise ConfigError([f"tokens.key: {mistake}" for mistake in error.mistakes]) from None
    except ValueError as error:
        raise ConfigError([f"tokens.key: {reference} {error}"]) from None


def _setting(mappings: Mappings, listener: Listener, sender: Sender | None, tokens: Tokens | None) -> Setting:
    name = (sender.timezone if sender else None) or listener.timezone
    charset = (sender.charset_fallback if sender else None) or listener.charset_fallback
    return Setting(mappings, zone.named(name) if name else None, charset, tokens)


class InService:
    """The tables that are in service: one reference. May be read in any thread while the event loop swaps."""

    def __init__(self, tables: TableSets) -> None:
        self.tables = tables
        self.followers: list[Callable[[TableSets], None]] = []  # told of every swap
        self._events: dict[str, tuple[TableSets, Events]] = {}

    def swap(self, tables: TableSets) -> None:
        """From now on every message that asks gets these."""
        self.tables = tables
        for follow in self.followers:
            follow(tables)

    def events(self, listener: Listener) -> Events:
        """The look-up for admission, always by the tables in service."""

        def why_not(message_code: str, trigger_event: str) -> Reason | None:
            tables = self.tables
            known = self._events.get(listener.name)
            if known is None or known[0] is not tables:
                known = self._events[listener.name] = (tables, events_of(tables.events(listener)))
            return known[1](message_code, trigger_event)

        return why_not
