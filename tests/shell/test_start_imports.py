"""What a start does not load."""

from __future__ import annotations

import subprocess
import sys


def test_a_start_loads_no_web_framework_and_no_cryptography() -> None:
    code = (
        "import sys, hl7bridge.bridge; print(*sorted({'aiohttp', 'cryptography', 'fhir.resources'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.split() == []
