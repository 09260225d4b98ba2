"""Those who watch the rooms and feed metrics and log: one for each listener, one for the worker, one for the journal.

What holds: counting is always done, a log line is written only for what an operator may have to act on (info and above)
or asked for (debug). Types are told as the tables know them, else `other`; nothing else comes from a message.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from hl7bridge.delivery.shipment import EndpointObserver
from hl7bridge.intake import IntakeObserver
from hl7bridge.mllp.denial import Denial
from hl7bridge.mllp.framing import Cause
from hl7bridge.mllp.observer import Observer as ListenerObserver
from hl7bridge.mllp.observer import Why
from hl7bridge.mllp.peer import Peer
from hl7bridge.observe.log import Log, debugging, told
from hl7bridge.observe.metrics import CIRCUIT, Metrics, ack_code, reason
from hl7bridge.observe.strangers import Strangers
from hl7bridge.reasons import DAMAGED
from hl7bridge.tls.rotation import DAY, Ending
from hl7bridge.worker import Observer as WorkerObserver

SOON = 30 * DAY  # a certificate toward the endpoint that ends before is warned of when it is read


class ListenerWatch(ListenerObserver):
    """Watches one MLLP port."""

    def __init__(self, listener: str, metrics: Metrics, log: Log, strangers: Strangers) -> None:
        self._listener, self._metrics, self._log, self._strangers = listener, metrics, log, strangers
        self._open = metrics.connections(listener)
        self._connected = metrics.connected(listener)
        self._junk = metrics.junk_bytes(listener)
        self._open.set(0)

    def opened(self, peer: Peer) -> None:
        self._open.inc()
        self._connected.inc()
        self._log.debug("connection opened", listener=self._listener, peer=peer.name)

    def closed(self, peer: Peer) -> None:
        self._open.dec()
        self._log.debug("connection closed", listener=self._listener, peer=peer.name)

    def denied(self, peer: Peer, denial: Denial) -> None:
        self._metrics.refused(self._listener, denial.value).inc()
        self._strangers.denied(self._listener, peer, denial)

    def probed(self, peer: Peer) -> None:
        self._log.debug("peer left during the TLS handshake", listener=self._listener, peer=peer.name)

    def starved(self, cause: str) -> None:
        self._metrics.starved(self._listener, cause).inc()
        self._log.error(
            "no connection can be taken for a moment: out of file descriptors or memory",
            listener=self._listener,
            detail=cause,
        )

    def rotated(self, paths: Sequence[str]) -> None:
        self._metrics.rotations(self._listener, "done").inc()
        self._log.info("new TLS files are in use", listener=self._listener, path=", ".join(paths))

    def not_rotated(self, why: str) -> None:
        self._metrics.rotations(self._listener, "refused").inc()
        self._log.error("new TLS files are unfit: those in use stay in use", listener=self._listener, detail=why)

    def ending(self, ending: Ending) -> None:
        now = time.time()
        tell = self._log.warning if ending.at > now else self._log.error
        tell("a TLS file needs to be replaced", listener=self._listener, path=ending.path, detail=ending.told(now))

    def junk(self, peer: Peer, count: int) -> None:
        self._junk.inc(count)
        self._log.debug("bytes between messages ignored", listener=self._listener, peer=peer.name, bytes=count)

    def broken(self, peer: Peer, count: int, cause: Cause) -> None:
        self._fault(peer, cause.value, count)

    def too_large(self, peer: Peer) -> None:
        self._fault(peer, Why.TOO_LARGE.value, 0)

    def dropped(self, peer: Peer, why: Why) -> None:
        if why in (Why.IDLE, Why.DRAIN, Why.TRUST, Why.TOO_LARGE, Why.HUNG_UP):  # ordinary, or told already
            self._log.debug("connection ended", listener=self._listener, peer=peer.name, detail=why.value)
        else:
            self._fault(peer, why.value, 0)

    def failed(self, peer: Peer, error: BaseException) -> None:
        self._log.error(
            "a message could not be answered: a defect of hl7bridge, please report it",
            listener=self._listener,
            peer=peer.name,
            **told(error),
        )

    def unanswered(self, peer: Peer, count: int) -> None:
        self._metrics.unanswered(self._listener).inc(count)
        self._log.info("sender left before its answers", listener=self._listener, peer=peer.name, count=count)

    def _fault(self, peer: Peer, fault: str, count: int) -> None:
        self._metrics.broken_frames(self._listener, fault).inc()
        self._log.warning("broken frame", listener=self._listener, peer=peer.name, detail=fault, bytes=count)


class IntakeWatch(IntakeObserver):
    """Watches what becomes of one listener's messages before the journal."""

    def __init__(self, listener: str, metrics: Metrics, log: Log, strangers: Strangers) -> None:
        self._listener, self._metrics, self._log, self._strangers = listener, metrics, log, strangers
        self._to_ack = metrics.receive_to_ack(listener)

    def received(self, listener: str, type: str) -> None:
        self._metrics.received(listener, self._metrics.type(type)).inc()

    def acknowledged(self, listener: str, code: str, reason_code: str, seconds: float) -> None:
        answer, why = ack_code(code), reason(reason_code)
        self._metrics.acknowledged(listener, answer, why).inc()
        self._to_ack.observe(seconds)
        if why:
            self._log.info("message refused", listener=listener, ack_code=answer, reason=why)
        elif debugging():
            self._log.debug("message taken", listener=listener, ack_code=answer, seconds=round(seconds, 4))

    def duplicate(self, listener: str) -> None:
        self._metrics.duplicates(listener).inc()
        self._log.debug("duplicate, answered as before", listener=listener)

    def reused_control_id(self, listener: str) -> None:
        self._metrics.reused(listener).inc()
        self._log.warning("a control id came again with other bytes: taken as a new message", listener=listener)

    def parked(self, listener: str, type: str, reason_code: str) -> None:
        known = self._metrics.type(type)
        self._metrics.dead(listener, known, reason(reason_code)).inc()
        self._log.info("parked among the dead letters", listener=listener, type=known, reason=reason(reason_code))

    def acknowledgement(self, listener: str) -> None:
        self._log.debug("an acknowledgement came: nothing is done with it", listener=listener)

    def impostor(self, listener: str, peer: Peer, sender: str) -> None:
        self._strangers.impostor(listener, peer, sender)

    def without_channel(self, listener: str) -> None:
        self._metrics.application_acks_unwanted(listener).inc()
        self._log.debug("an application ACK is asked for, and there is no channel for it", listener=listener)

    def findings(self, listener: str, type: str, count: int) -> None:
        self._metrics.findings(listener, self._metrics.type(type)).inc(count)

    def failed(self, listener: str, error: BaseException) -> None:
        self._log.error("intake failed on a message", listener=listener, **told(error))


class EndpointWatch(EndpointObserver):
    """Watches tokens toward the FHIR endpoint; certificates toward it, and toward receivers of application ACKs."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics, self._log = metrics, log
        self.why = ""  # why there is no token; empty while there is one, or none is wanted
        self.asked = False  # was there a token before?
        self.endings: dict[str, tuple[Ending, ...]] = {}  # of the TLS files in use
        self.unfit: dict[str, str] = {}  # why changed ones are not

    def token(self, lasts: float) -> None:
        self._metrics.tokens("ok").inc()
        tell = self._log.info if self.why else self._log.debug
        tell("token of the endpoint renewed", seconds=lasts)
        self.why, self.asked = "", True

    def no_token(self, why: str) -> None:
        self._metrics.tokens("failed").inc()
        if why != self.why:  # once for each cause: it is asked again every few seconds
            self._log.warning("no token for the endpoint", detail=why)
        self.why = why

    def certificates(self, key: str, endings: Sequence[Ending], unfit: str | None) -> None:
        if unfit:
            self.unfit[key] = unfit
            self._metrics.rotations(key, "refused").inc()
            self._log.error(
                "TLS files toward a server are unfit; those from before stay in use", check=key, detail=unfit
            )
            return
        self.endings[key] = tuple(endings)
        self.unfit.pop(key, None)
        if unfit is not None:
            self._metrics.rotations(key, "done").inc()
            self._log.info("TLS files toward a server were read again", check=key)
        now = time.time()
        for ending in endings:
            if ending.at - now < SOON:
                self._log.warning("a TLS file needs to be replaced", path=ending.path, detail=ending.told(now))


class WorkerWatch(WorkerObserver):
    """Watches translation and delivery."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics, self._log = metrics, log
        self.circuit = "closed"
        self.why = ""
        metrics.circuit().set(CIRCUIT["closed"])

    def translated(self, id: str, listener: str, type: str, took: float) -> None:
        self._metrics.translated(listener, self._metrics.type(type)).inc()
        self._metrics.translate_seconds(listener).observe(took)

    def delivered(self, id: str, listener: str, type: str, waited: float, took: float) -> None:
        known = self._metrics.type(type)
        self._metrics.delivered(listener, known).inc()
        self._metrics.receive_to_delivered(listener).observe(waited)
        self._metrics.attempt_seconds("delivered").observe(took)
        if debugging():
            self._log.debug("delivered", message_id=id, listener=listener, type=known, seconds=round(waited, 3))

    def retried(self, id: str, listener: str, type: str, status: int, why: str, attempts: int, pause: float) -> None:
        known = self._metrics.type(type)
        self._metrics.retried(listener, known, f"{status // 100}xx" if status else "no-answer").inc()
        self._log.info(
            "delivery put off",
            message_id=id,
            listener=listener,
            type=known,
            status=status,
            detail=why,
            attempts=attempts,
            wait=round(pause, 1),
        )

    def dead(self, id: str, listener: str, type: str, reason_code: str) -> None:
        known = self._metrics.type(type)
        self._metrics.dead(listener, known, reason(reason_code)).inc()
        if reason_code == DAMAGED.code:
            self._metrics.damage("message").inc()
        self._log.warning("dead letter", message_id=id, listener=listener, type=known, reason=reason(reason_code))

    def circuit_changed(self, state: str, why: str) -> None:
        self.circuit, self.why = state, why
        self._metrics.circuit().set(CIRCUIT.get(state, 0))
        tell = self._log.warning if state == "open" else self._log.info
        tell("circuit " + state, circuit=state, detail=why)

    def trouble(self, what: str, detail: str) -> None:
        self._metrics.trouble(what).inc()
        self._log.error("trouble, tried again later", check=what, detail=detail)


class JournalWatch:
    """Watches commits: called in the writer's thread."""

    def __init__(self, metrics: Metrics) -> None:
        self._seconds, self._changes = metrics.commit_seconds(), metrics.commit_changes()

    def __call__(self, seconds: float, changes: int) -> None:
        self._seconds.observe(seconds)
        self._changes.observe(changes)
