"""Which event loop the daemon runs on, and what doctor says of it."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from hl7bridge.config import Config
from hl7bridge.errors import UnavailableError
from hl7bridge.examine.loop import event_loop
from hl7bridge.looping import Loop, chosen


def made() -> None: ...


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", SimpleNamespace(__version__="9.9", new_event_loop=made))  # type: ignore[arg-type]


@pytest.fixture
def absent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "uvloop", None)  # type: ignore[arg-type]


def test_uvloop_runs_the_daemon_where_it_is_installed_and_nobody_says_no(installed: None) -> None:
    assert chosen("auto") == chosen("uvloop") == Loop("uvloop 9.9", made)  # type: ignore[arg-type]
    assert chosen("asyncio") == Loop("asyncio", None)


def test_without_it_asyncio_s_own_does_unless_it_is_asked_for_by_name(absent: None) -> None:
    assert chosen("auto") == chosen("asyncio") == Loop("asyncio", None)
    with pytest.raises(UnavailableError, match=r"hl7bridge\[fast\]"):
        chosen("uvloop")


def test_doctor_says_which(installed: None) -> None:
    (finding,) = event_loop(Config())
    assert (finding.grade, finding.text) == ("ok", "uvloop 9.9 runs the daemon")


def test_doctor_fails_where_the_one_that_is_asked_for_is_not_there(absent: None) -> None:
    (finding,) = event_loop(Config(event_loop="uvloop"))
    assert finding.grade == "FAIL" and "event_loop" in finding.text + finding.remedy
