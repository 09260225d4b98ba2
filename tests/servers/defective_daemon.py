"""`hl7bridge serve` with defects that quote the message: `defective_daemon.py --config FILE serve`.

Each stands for a mistake somebody may make one day, or an exception a library may raise; what a message with its marker
meets raises an exception whose text, arguments and local variables hold values of the message.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import warnings
from typing import Any

MARKERS = ("BREAK-TRANSLATION", "BREAK-ADMISSION", "BREAK-DELIVERY", "BREAK-TASK", "BREAK-THREAD", "BREAK-WARNING")


class Quoting(Exception):
    """Says all it knows."""


def install() -> None:
    from hl7bridge.delivery.endpoint import HttpEndpoint
    from hl7bridge.intake import preparing
    from hl7bridge.translators import answer

    right_translate, right_admit, right_deliver = answer.translate, preparing.admit, HttpEndpoint.deliver

    def translate(raw: bytes, *args: Any, **more: Any) -> Any:
        quoted = raw.decode("latin-1")
        if "BREAK-TRANSLATION" in quoted:
            raise Quoting(f"cannot translate {quoted}", raw) from ValueError(quoted)
        return right_translate(raw, *args, **more)

    def admit(header: Any, *args: Any, **more: Any) -> Any:
        control_id = header.control_id.decode("latin-1")
        quoted = f"{control_id} from {header.sending_facility!r}"
        if "BREAK-ADMISSION" in control_id:
            raise Quoting(quoted)
        if "BREAK-TASK" in control_id:
            asyncio.get_running_loop().create_task(_fail(quoted), name=quoted)
        if "BREAK-THREAD" in control_id:
            threading.Thread(target=_raise, args=(quoted,), name=quoted).start()
        if "BREAK-WARNING" in control_id:
            warnings.warn(quoted, stacklevel=1)
        return right_admit(header, *args, **more)

    async def deliver(self: Any, shipment: Any) -> Any:
        if b"BREAK-DELIVERY" in shipment.bundle:
            raise Quoting(shipment.bundle.decode())
        return await right_deliver(self, shipment)

    answer.translate, preparing.admit = translate, admit  # type: ignore[assignment]
    HttpEndpoint.deliver = deliver  # type: ignore[method-assign]


async def _fail(quoted: str) -> None:
    raise Quoting(quoted)


def _raise(quoted: str) -> None:
    raise Quoting(quoted)


if __name__ == "__main__":
    install()
    sys.argv[0] = "hl7bridge"
    from hl7bridge.__main__ import main

    main()
