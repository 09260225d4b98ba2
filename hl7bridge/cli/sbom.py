"""`hl7bridge sbom`: what this installation is made of, for those who watch for vulnerable packages."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime

import click


@click.command()
def sbom() -> None:
    """Print a bill of materials (CycloneDX 1.6, JSON): every package that runs here, with version and licence.

    SOURCE_DATE_EPOCH sets the time in it, so that two runs give the same bytes.

    \b
    Examples:
      hl7bridge sbom > hl7bridge.cdx.json
    """
    from hl7bridge import supply
    from hl7bridge.mapping.mappings import load_mappings

    epoch = os.environ.get("SOURCE_DATE_EPOCH", "")
    made_at = datetime.fromtimestamp(int(epoch), UTC) if epoch.isdecimal() else datetime.now(UTC)
    click.echo(json.dumps(supply.bill(load_mappings().version, made_at), indent=2))
