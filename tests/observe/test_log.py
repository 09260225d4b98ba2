"""The log lets through what is on its list, and nothing else, on every way into it."""

from __future__ import annotations

import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, Literal

import pytest

from hl7bridge.errors import MessageError
from hl7bridge.observe import log as logs
from hl7bridge.reasons import UNPARSABLE

SENTINEL = "EVERYWOMAN"


class Captured(io.StringIO):
    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.getvalue().splitlines()]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


@pytest.fixture
def stream(logging_as_before: None) -> Iterator[Captured]:
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    yield Captured()
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks


def test_a_field_on_the_list_passes(stream: Captured) -> None:
    logs.configure("json", "info", stream).info(
        "message dead", listener="adt", reason="charset", attempts=3, events=["A01"]
    )
    line = stream.last
    assert line.pop("timestamp").endswith("Z")
    assert line == {
        "event": "message dead",
        "level": "info",
        "listener": "adt",
        "reason": "charset",
        "attempts": 3,
        "events": ["A01"],
    }


def test_a_field_that_is_not_on_the_list_is_dropped_and_named(stream: Captured) -> None:
    logs.configure("json", "info", stream).info("x", patient=SENTINEL, raw=SENTINEL.encode(), listener="adt")
    assert stream.last["dropped_fields"] == ["patient", "raw"]
    assert SENTINEL not in stream.getvalue()


@pytest.mark.parametrize("value", [{SENTINEL: 1}, [[SENTINEL]], SENTINEL.encode(), ValueError(SENTINEL), object()])
def test_a_value_that_is_not_plain_is_dropped_even_under_a_good_name(stream: Captured, value: object) -> None:
    logs.configure("json", "info", stream).info("x", path=value)
    assert stream.last["dropped_fields"] == ["path"]
    assert SENTINEL not in stream.getvalue()


@pytest.mark.parametrize("form", ["json", "console"])
def test_an_event_that_is_no_text_is_dropped_too(stream: Captured, form: Literal["json", "console"]) -> None:
    log: Any = logs.configure(form, "info", stream)
    log.info(SENTINEL.encode(), listener="adt")
    assert "dropped_fields" in stream.getvalue()
    assert SENTINEL not in stream.getvalue()


def test_when_how_bad_and_what_come_first(stream: Captured) -> None:
    logs.configure("json", "info", stream).info("bound", listener="adt")
    assert list(stream.last) == ["timestamp", "level", "event", "listener"]


def test_an_exception_is_told_by_type_and_place_only(stream: Captured) -> None:
    log = logs.configure("json", "info", stream)
    try:
        try:
            int(SENTINEL)
        except ValueError as error:
            raise KeyError(SENTINEL) from error
    except KeyError:
        log.exception("the worker failed")
    assert stream.last["error"] == "KeyError <- ValueError"
    assert SENTINEL not in stream.getvalue()


def test_frames_are_those_of_our_own_code() -> None:
    try:
        logs.configure("json", "no such level", io.StringIO())
    except KeyError as error:
        (frame,) = logs.frames(error)
        assert frame.startswith("observe/log.py:")
        assert frame.endswith(" configure")


def test_an_error_of_our_own_tree_tells_its_value_free_text(stream: Captured) -> None:
    log = logs.configure("json", "info", stream)
    log.warning("refused", exc_info=MessageError(UNPARSABLE, location="MSH^1"))
    assert stream.last["detail"] == "unparsable: the block holds no HL7 v2 message"
    assert stream.last["error"] == "MessageError"


def test_lines_of_libraries_keep_only_the_constant_words_of_their_template(stream: Captured) -> None:
    logs.configure("json", "info", stream)
    other = logging.getLogger("aiohttp.server")
    other.error("Error handling request from %s", SENTINEL, exc_info=ValueError(SENTINEL), extra={"peer": SENTINEL})
    other.error(f"Exception in callback Protocol.take(b'{SENTINEL}')\nhandle: <Handle {SENTINEL}>")
    other.error({"patient": SENTINEL})
    logging.getLogger("hl7bridge.x").error("oops %s", SENTINEL)
    assert [line["event"] for line in stream.lines] == [
        "Error handling request from %s",
        "Exception in callback Protocol.take",
        "a library's message",
        "oops %s",
    ]
    assert SENTINEL not in stream.getvalue()


def test_warnings_come_through_the_same_door(stream: Captured) -> None:
    logs.configure("json", "info", stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn(SENTINEL, stacklevel=1)
    assert stream.last["logger"] == "py.warnings"
    assert SENTINEL not in stream.getvalue()


def test_exceptions_nobody_caught_are_told_without_their_text(stream: Captured) -> None:
    logs.take_over_hooks(logs.configure("json", "info", stream))
    error = ValueError(SENTINEL)
    sys.excepthook(ValueError, error, None)
    thread = threading.Thread(target=int, args=(SENTINEL,))
    thread.start()
    thread.join()
    assert [line["error"] for line in stream.lines] == ["ValueError", "ValueError"]
    assert SENTINEL not in stream.getvalue()


def test_people_see_the_same_fields_and_no_more(stream: Captured) -> None:
    log = logs.configure("console", "info", stream)
    log.info("bound", listener="adt", patient=SENTINEL)
    try:
        int(SENTINEL)
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert "listener=adt" in text
    assert "error=ValueError" in text
    assert SENTINEL not in text


def test_lines_below_the_level_are_not_written(stream: Captured) -> None:
    log = logs.configure("json", "warning", stream)
    log.info("x")
    log.warning("y")
    assert [line["event"] for line in stream.lines] == ["y"]
