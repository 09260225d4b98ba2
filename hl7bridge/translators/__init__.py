"""Translation in processes of its own, so that it takes no time from those who listen and answer.

`pool` is the daemon's side, `line` one process as the pool sees it, `process` what runs in each, `answer` what it does
with a message, `wire` what the two say to each other.
"""

from hl7bridge.translators.pool import Pool, count

__all__ = ["Pool", "count"]
