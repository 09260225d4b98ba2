"""From a frame to its answer: header, policy, journal, ACK bytes.

`intake` is the story, `preparing` says what a message must stand before the journal, `answers` makes what is answered,
`observer` is who is told.
"""

from hl7bridge.intake.answers import control_ids
from hl7bridge.intake.intake import Intake
from hl7bridge.intake.observer import IntakeObserver

__all__ = ["Intake", "IntakeObserver", "control_ids"]
