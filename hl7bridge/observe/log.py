"""The log: one line an event, JSON or for people, with nothing in it that is not on the list.

What holds:
- A field passes only if its name is in FIELDS and its value is a plain one (text, number, truth, list of texts); every
  other is dropped and its name (not its value) listed under `dropped_fields`, so the loss is seen.
- An exception is its type and the frames of our own code. Its text is shown only for a Hl7BridgeError, whose text is
  free of values by rule (see errors.py). Local variables are never shown.
- Lines of libraries (asyncio, warnings) come through the same door, cut down to the constant words of their
  template: their arguments and what an f-string put in may quote data.
"""

from __future__ import annotations

import logging
import re
import sys
import threading
from collections.abc import Mapping, MutableMapping
from types import TracebackType
from typing import Any, Literal, TextIO

import orjson
import structlog

from hl7bridge.errors import Hl7BridgeError
from hl7bridge.observe.frames import frames, kind

# every field a log line may have, and what it means; docs and tests read this table
FIELDS: Mapping[str, str] = {
    "event": "what happened, a constant sentence",
    "level": "debug, info, warning, error, critical",
    "timestamp": "ISO 8601, UTC",
    "logger": "the library that speaks, when it is not hl7bridge itself",
    "listener": "name of the listener",
    "host": "address bound or reached",
    "port": "TCP port",
    "peer": "address of a sender, or the name in its certificate",
    "fingerprint": "sha-256 of a peer's certificate",
    "message_id": "our id of a message (uuid); `messages show` leads from it to the message",
    "type": "message type and trigger event, `other` when no table knows it",
    "ack_code": "AA AE AR CA CE CR",
    "channel": "the configuration's name of a receiver of application ACKs",
    "reason": "code of the catalogue of reasons",
    "table": "name of a mapping table",
    "field": "position in a message, such as PID-5",
    "issue": "code-unmapped, value-invalid, repetition-dropped …",
    "attempts": "how often delivery was tried",
    "status": "HTTP status of the endpoint's answer",
    "circuit": "closed, half-open, open",
    "wait": "seconds until the next attempt",
    "seconds": "duration",
    "bytes": "a number of bytes",
    "count": "a number of things",
    "undelivered": "messages not delivered yet",
    "connections": "open connections",
    "path": "file or folder of the configuration",
    "base_url": "FHIR endpoint",
    "origin": "where the configuration or the tables came from",
    "actor": "who asked for it: a user of the operating system, or a signal",
    "anchor": "number and hash of the newest receipt, for `journal verify --anchor`",
    "version": "version of hl7bridge",
    "mapping_version": "content hash of the tables",
    "events": "trigger events the tables handle",
    "signal": "name of a signal",
    "check": "name of a health check",
    "detail": "a value-free sentence of a Hl7BridgeError or check",
    "error": "type of an exception, with those that caused it",
    "frames": "file:line function, our own code only, innermost last",
    "dropped_fields": "names of fields that were not on this list",
}

_FIRST = ("timestamp", "level", "event")
_LIST_SHOWN = 200
# the words before anything that may be data: a number, a quote, a bracket, the repr of an object
_CONSTANT_WORDS = re.compile(r"[A-Za-z][A-Za-z ,.%_-]*")
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}

Log = structlog.stdlib.BoundLogger
_OURS = logging.getLogger("hl7bridge")


def debugging() -> bool:
    """Whether lines at debug are written. Who would write one for each message asks first: to make a line that is
    dropped costs more than all the counting around it."""
    return _OURS.isEnabledFor(logging.DEBUG)


def told(error: BaseException) -> dict[str, Any]:
    """The fields that tell of an exception."""
    fields: dict[str, Any] = {"error": kind(error), "frames": frames(error)}
    if isinstance(error, Hl7BridgeError):
        fields["detail"] = str(error)
    return fields


def _explain_exception(_log: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """`exc_info=…` becomes error, frames and perhaps detail."""
    given = event.pop("exc_info", None)
    if given is True:
        given = sys.exc_info()
    error = given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event.update(told(error))
    return event


def allow(_log: Any, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Keeps the fields on the list whose values are plain."""
    # when, how bad and what first: for whoever reads lines
    kept: dict[str, Any] = {name: event[name] for name in _FIRST if name in event and _plain(event[name])}
    dropped: list[str] = []
    for name, value in event.items():
        if name.startswith("_"):  # structlog's own, taken off by its formatter
            kept[name] = value
        elif name in FIELDS and _plain(value):
            kept[name] = list(value)[:_LIST_SHOWN] if isinstance(value, (tuple, list)) else value
        else:
            dropped.append(name if name.isidentifier() else "?")
    if dropped:
        kept["dropped_fields"] = sorted(dropped)
    return kept


def _plain(value: object) -> bool:
    if value is None or type(value) in (str, int, float, bool):
        return True
    return isinstance(value, (tuple, list)) and all(type(part) is str for part in value)


class _Foreign(logging.Filter):
    """A library's record, cut down to what cannot be data."""

    def filter(self, record: logging.LogRecord) -> bool:
        if hasattr(record, "_logger"):  # structlog's mark: the line is ours and has been through `allow`
            return True
        template = str(record.msg).partition("\n")[0] if isinstance(record.msg, str) else ""
        words = _CONSTANT_WORDS.match(template)
        record.msg = (words[0].strip() if words else "") or "a library's message"
        record.args = ()
        record.stack_info = None
        record.exc_text = None
        return True


def configure(
    form: Literal["json", "console", "auto"] = "auto",
    level: str = "info",
    stream: TextIO | None = None,
) -> Log:
    """Sets the process's log up, once, at the edge (`serve`, tests), and gives the logger that is passed down.

    stream: standard error unless given; also takes over warnings and the hooks for exceptions nobody caught.
    """
    stream = sys.stderr if stream is None else stream
    people = form == "console" or (form == "auto" and stream.isatty())
    shared: list[Any] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _explain_exception,
        allow,
    ]
    renderer: Any = (
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=40)
        if people
        else structlog.processors.JSONRenderer(serializer=_json)
    )
    handler = logging.StreamHandler(stream)
    handler.addFilter(_Foreign())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)  # libraries: only what is wrong
    logging.getLogger("hl7bridge").setLevel(_LEVELS[level])
    logging.captureWarnings(True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    return logger()


def logger() -> Log:
    """The logger of hl7bridge."""
    found: Log = structlog.stdlib.get_logger("hl7bridge")
    return found


def _json(event: Any, **_: Any) -> str:
    return orjson.dumps(event, default=lambda value: type(value).__name__).decode()


def take_over_hooks(log: Log) -> None:
    """Exceptions nobody caught (main thread, threads, destructors) become a line without values, not a traceback."""

    def uncaught(_type: type[BaseException], error: BaseException, _trace: TracebackType | None) -> None:
        log.critical("stopped by an exception nobody caught", **told(error))

    def in_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None:
            log.error("a thread was stopped by an exception", **told(args.exc_value))

    def unraisable(args: sys.UnraisableHookArgs) -> None:
        if args.exc_value is not None:
            log.error("an exception in a destructor was ignored", **told(args.exc_value))

    sys.excepthook = uncaught
    threading.excepthook = in_thread
    sys.unraisablehook = unraisable
