"""Application acknowledgements as exchanges of their own: built when a message has met its fate, sent until taken.

Source: HL7 v2.9.1 section 2.9.3 (enhanced mode). `replies` runs it, `channel` is one receiver, `judgement` what its
answers mean, `journal/acknowledgements` what outlasts a restart.
"""

from hl7bridge.replies.channel import DAMAGED
from hl7bridge.replies.replies import Observer, Replies, channels_of

__all__ = ["DAMAGED", "Observer", "Replies", "channels_of"]
