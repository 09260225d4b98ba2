"""The second half of the bridge: what the journal holds is translated and delivered, or dead-lettered.

`worker` is the story, `backlog` says what is next, `ends` writes down what became of it, `letterbox` keeps the
dead-letter directories, `seams` are the small interfaces to the rest.
"""

from hl7bridge.worker.seams import Clock, Observer, Settled, SystemClock, Translate, Translation, Translator
from hl7bridge.worker.worker import Worker

__all__ = ["Clock", "Observer", "Settled", "SystemClock", "Translate", "Translation", "Translator", "Worker"]
