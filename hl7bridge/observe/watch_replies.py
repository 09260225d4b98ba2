"""Watches application acknowledgements: metrics of all, log lines of what an operator may have to act on.

What holds: one that is given up is an error in the log with the message's id: a sender waits for it in vain.
"""

from __future__ import annotations

from hl7bridge.observe.log import Log
from hl7bridge.observe.metrics import CIRCUIT, Metrics, ack_code
from hl7bridge.replies import DAMAGED, Observer


class RepliesWatch(Observer):
    """Watches every channel."""

    def __init__(self, metrics: Metrics, log: Log) -> None:
        self._metrics, self._log = metrics, log

    def settled(self, channel: str, code: str, state: str, message_id: str, detail: str) -> None:
        answer = ack_code(code) if code else "none"
        self._metrics.application_acks(channel, answer, state).inc()
        if detail == DAMAGED:
            self._metrics.damage("application-ack").inc()
        if state == "given-up":
            self._log.error(
                "application ACK given up", channel=channel, ack_code=answer, message_id=message_id, detail=detail
            )
        else:
            self._log.debug("application ACK " + state, channel=channel, ack_code=answer, message_id=message_id)

    def put_off(self, channel: str, code: str, why: str, attempts: int) -> None:
        self._metrics.application_acks(channel, ack_code(code), "put-off").inc()
        self._log.info("application ACK put off", channel=channel, detail=why, attempts=attempts)

    def circuit(self, channel: str, state: str, why: str) -> None:
        self._metrics.application_ack_circuit(channel).set(CIRCUIT.get(state, 0))
        tell = self._log.warning if state == "open" else self._log.info
        tell("circuit of application ACKs " + state, channel=channel, circuit=state, detail=why)

    def without_channel(self, channel: str) -> None:
        self._log.warning("application ACKs wait for a channel that is not configured any more", channel=channel)

    def trouble(self, channel: str, detail: str) -> None:
        self._metrics.trouble("application-acks").inc()
        self._log.error("trouble, tried again later", check="application-acks", channel=channel, detail=detail)
