"""`hl7bridge serve`: the daemon, in the foreground."""

from __future__ import annotations

import asyncio

import click

from hl7bridge.cli.main import Shell
from hl7bridge.collecting import held


@click.command()
@click.pass_obj
def serve(shell: Shell) -> None:
    """Run the daemon: listen, journal, translate, deliver.

    Without a configuration: MLLP on port 6661, health and metrics on 9661, journal and dead letters in ./var, bundles
    written to ./var/out. SIGTERM or Ctrl-C ends it in order: what came whole is answered, what is in flight is
    delivered, within drain_timeout. Log lines go to standard error and hold no patient data.

    \b
    Examples:
      hl7bridge serve
      hl7bridge --config site.yaml serve
      HL7BRIDGE_FHIR__BASE_URL=http://localhost:8080/fhir hl7bridge serve

    \b
    Exit codes: 0 ended in order, 3 the configuration or the tables do not load, 4 a port, the journal or a folder
    cannot be had.
    """
    settings = shell.settings
    with held():
        from prometheus_client import disable_created_metrics

        from hl7bridge.bridge import serve as run
        from hl7bridge.looping import chosen
        from hl7bridge.observe.log import configure, take_over_hooks

    disable_created_metrics()  # type: ignore[no-untyped-call]  # a second series a counter, which nobody asks for
    log = configure(settings.config.observe.log_format, settings.config.observe.log_level)
    take_over_hooks(log)
    loop = chosen(settings.config.event_loop)
    log.info("event loop", detail=loop.told)
    with asyncio.Runner(loop_factory=loop.make) as runner:
        runner.run(run(settings, log))
