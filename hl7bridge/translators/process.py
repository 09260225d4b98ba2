"""One translating process: reads messages from standard input, writes bundles to standard output, until the pipe ends.

What holds and why:
- It ends with the daemon, however that ends: the pipe's end ends it between messages, and a thread that waits at a
  second pipe (the lifeline) ends it in the middle of one. Signals to end are the daemon's alone; these processes ignore
  them, so that what is in flight comes to its end.
- It steps back (nice) behind the process that answers the senders.
- Nothing of a message is ever printed: what goes wrong is told by its class and place.
"""

from __future__ import annotations

import fcntl
import os
import pickle
import signal
import sys
import threading
from contextlib import suppress
from types import TracebackType
from typing import BinaryIO

from hl7bridge.collecting import resettle, settle
from hl7bridge.errors import where
from hl7bridge.service.tablesets import TableSets
from hl7bridge.translators.answer import answer
from hl7bridge.translators.wire import LENGTH, Load, Loaded, framed

NICENESS = 5  # an answer to a sender comes first
PIPE = 512 * 1024  # bytes that answers may wait in before the daemon has read them


def main(lifeline: int) -> None:
    """Serves until standard input ends. `lifeline`: a pipe whose other end only the daemon holds."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.excepthook = _tell
    threading.Thread(target=_end_with_the_daemon, args=(lifeline,), daemon=True).start()
    os.nice(NICENESS)
    with suppress(OSError):  # more than the system lets this user have: then it waits for the daemon more often
        fcntl.fcntl(1, fcntl.F_SETPIPE_SZ, PIPE)
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a stray print must not get between the answers
    serve(sys.stdin.buffer, answers)


def serve(questions: BinaryIO, answers: BinaryIO) -> None:
    """Answers every question, in order."""
    tables: TableSets | None = None
    while len(head := questions.read(LENGTH.size)) == LENGTH.size:
        (length,) = LENGTH.unpack(head)
        body = questions.read(length)
        if len(body) < length:
            return  # the daemon ended in the middle of a word
        said = pickle.loads(body)  # by the daemon, over a pipe of its own
        if isinstance(said, Load):
            first, tables = tables is None, said.tables
            settle() if first else resettle()
            answers.write(framed(Loaded(said.number)))
        elif tables is not None:
            answers.write(framed(answer(said, tables)))
        answers.flush()


def _tell(kind: type[BaseException], error: BaseException, _: TracebackType | None) -> None:
    sys.stderr.write(f"hl7bridge: a translating process ends: {where(error)}\n")


def _end_with_the_daemon(lifeline: int) -> None:
    os.read(lifeline, 1)
    os._exit(0)


if __name__ == "__main__":
    main(int(sys.argv[1]))
