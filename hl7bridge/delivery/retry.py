"""When a bundle is sent again, when it is given up, and when nobody sends at all. Sans-IO: clock and chance come in.

Two rules keep a long outage from turning a hospital's weekend into dead letters:

1. **The circuit waits, messages do not pay.** After `circuit_after` failures in a row that may be the endpoint's, or
   one wrong password or address, the circuit opens: nothing is sent but one probe (a real message) every
   `circuit_probe` seconds. For credentials and addresses the pause doubles up to `cap`, because accounts get locked. A
   success closes it.
2. **An attempt counts against a message only on evidence**: the endpoint took another message since this one's last
   failure (`Tries.failed`). During an outage nobody passes, so nothing counts, however long it lasts and whatever the
   answers are (refused, 500, 409). Failures that are only ever the endpoint's (refused, DNS, TLS, 429, 503, 401, 403,
   3xx) never count. When the endpoint is back and others pass while this bundle still gets a 500, its attempts count.

Given up (retries-exhausted) is a message whose counted attempts fill the schedule: the expected pauses before them add
up to `give_up_after` (`Schedule.exhausted`). Counted attempts are in the journal, so a restart does not start again,
and no clock is asked, so a clock that jumps cannot give anything up. A lone message that fails while nothing else is
there to pass is not given up: the circuit's probes repeat it, and the age of the oldest undelivered message shows it.

Full jitter: a pause is drawn between nothing and the ceiling, so that messages that failed together do not return
together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from hl7bridge.delivery.outcome import Blame

FLOOR = 0.05  # seconds: jitter may draw almost nothing, and almost nothing is a hot loop
QUICK_TRIES = 4  # a conditional create that raced is through at the second try, or it is no race
QUICK_FROM, QUICK_TO = 0.05, 0.5
PATIENCE = 4  # tries before RetryAt.instead: as many as the quick ones


@dataclass(frozen=True, slots=True)
class Schedule:
    """Exponential backoff. All in seconds."""

    first: float = 1.0
    cap: float = 300.0
    give_up_after: float = 86_400.0 * 3

    def ceiling(self, tries: int) -> float:
        """The longest pause after `tries` failures (1 or more)."""
        doublings = min(max(tries, 1) - 1, 64)  # 2.0**64 seconds is past any cap, and no overflow
        return float(min(self.cap, self.first * 2.0**doublings))

    def pause(self, tries: int, chance: float, after: float | None = None, quick: bool = False) -> float:
        """Seconds until the next attempt. `chance` in [0, 1); `after`: Retry-After, never undercut."""
        if quick and tries <= QUICK_TRIES:
            drawn = QUICK_FROM + chance * (QUICK_TO - QUICK_FROM)
        else:
            drawn = max(chance * self.ceiling(tries), FLOOR)
        return drawn if after is None else max(after, drawn)

    def lasts(self, attempts: int) -> float:
        """The expected sum of the pauses after `attempts` failures: half of each ceiling."""
        total, attempt = 0.0, 1
        while attempt <= attempts and self.ceiling(attempt) < self.cap:
            total += self.ceiling(attempt) / 2
            attempt += 1
        return total + max(attempts - attempt + 1, 0) * self.cap / 2

    def exhausted(self, attempts: int) -> bool:
        """Do the counted attempts fill the schedule?"""
        return self.lasts(attempts) >= self.give_up_after


@dataclass(slots=True)
class Tries:
    """One message's failures.

    `attempts` count against it and are kept in the journal; `pace` sets the pause; `sent` is for people; `seen`: how
    many messages the endpoint had taken when this one last failed, or was first tried.
    """

    attempts: int
    seen: int
    pace: int = 0
    sent: int = 0

    def failed(self, blame: Blame | None, passed: int) -> bool:
        """Notes a failure; `passed`: messages the endpoint has taken so far. True: others pass, so it counted.

        `blame` None: credentials or address, which never count against a message. The pace rises when the failure is
        the message's or others pass: in an outage the circuit sets the pace, and the message is back soon after it.
        """
        others_pass = passed > self.seen
        self.seen = passed
        if others_pass or blame is Blame.MESSAGE:
            self.pace += 1
        counted = others_pass and blame in (Blame.MESSAGE, Blame.EITHER)
        self.attempts += counted
        return counted

    def lost_patience(self, blame: Blame, others_pass: bool) -> bool:
        """Is it time for RetryAt.instead? After PATIENCE tries where it is the message's own, else only on evidence."""
        if blame is Blame.MESSAGE:
            return self.pace >= PATIENCE
        return others_pass and self.attempts >= PATIENCE


class CircuitState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


@dataclass(frozen=True, slots=True)
class Permit:
    """Leave to send one message. `probe`: the one that finds out whether an open circuit may close."""

    probe: bool
    opened: int  # how often the circuit had opened: a permit from before says nothing about now


class Circuit:
    """The breaker between the worker and the endpoint. `now`: any clock, seconds; set back, it only restarts a pause.

    `on_change(state, why)` is called after each change, for metrics and logs; `why` is safe to log.
    """

    def __init__(
        self,
        after: int = 5,
        probe: float = 10.0,
        cap: float = 300.0,
        on_change: Callable[[CircuitState, str], None] | None = None,
    ) -> None:
        self.state = CircuitState.CLOSED
        self.why = ""
        self.failures = 0  # in a row
        self._after, self._probe, self._cap = after, probe, cap
        self._on_change = on_change
        self._pause = probe
        self._opened = 0
        self._since = 0.0

    def permit(self, now: float) -> Permit | None:
        """Leave to send, or None: wait until `probe_at`. While half open only the probe's outcome is waited for."""
        if self.state is CircuitState.CLOSED:
            return Permit(False, self._opened)
        if not self.ready(now):
            return None
        self._become(CircuitState.HALF_OPEN, self.why)
        return Permit(True, self._opened)

    def ready(self, now: float) -> bool:
        """Would `permit` give leave now? Changes nothing that can be seen."""
        if self.state is CircuitState.OPEN:
            return now >= self.probe_at(now)
        return self.state is CircuitState.CLOSED

    def probe_at(self, now: float) -> float:
        """When the next probe may go. Only meaningful while open."""
        if now < self._since:  # the clock was set back
            self._since = now
        return self._since + self._pause

    def passed(self, permit: Permit) -> None:
        """The endpoint works: it took a message, or judged it, or told of a conflict."""
        if self.state is not CircuitState.CLOSED and not permit.probe and permit.opened != self._opened - 1:
            return  # sent before an earlier outage
        self.failures = 0
        self._pause = self._probe
        if self.state is not CircuitState.CLOSED:
            self._become(CircuitState.CLOSED, "")

    def failed(self, permit: Permit, now: float, why: str, at_once: bool = False, after: float | None = None) -> None:
        """A failure that may be the endpoint's. `at_once`: credentials or address; `after`: it asked for a pause."""
        if permit.opened != self._opened or (self.state is not CircuitState.CLOSED and not permit.probe):
            return  # sent before the circuit opened: known already
        self.failures += 1
        if not (permit.probe or at_once or after or self.failures >= self._after):
            return
        again = permit.probe and at_once
        self._pause = min(self._pause * 2, max(self._cap, self._probe)) if again else self._probe
        self._pause = max(self._pause, after or 0.0)
        self._since = now
        self._opened += 1
        self._become(CircuitState.OPEN, why)

    def returned(self, permit: Permit) -> None:
        """The permit was not used, or its outcome told nothing of the endpoint: a probe may go again at once."""
        if permit.probe and self.state is CircuitState.HALF_OPEN and permit.opened == self._opened:
            self._become(CircuitState.OPEN, self.why)

    def _become(self, state: CircuitState, why: str) -> None:
        self.state, self.why = state, why
        if self._on_change is not None:
            self._on_change(state, why)
