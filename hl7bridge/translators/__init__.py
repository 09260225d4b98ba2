"""Translation in processes of its own, so that it takes no time from those who listen and answer.

`pool` is the daemon's side, `process` what runs in each process, `answer` what it does with a message, `wire` what
the two say to each other.
"""

from hl7bridge.translators.pool import Pool, count

__all__ = ["Pool", "count"]
