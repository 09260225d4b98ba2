"""Writes the documents that are made from the code. tests/shell and tests/docs compare them.

Without an argument what is quick; `--all`, as `make docs` says it, also the pages whose commands are run one after the
other, and the pictures of the terminal; `--feed FILE` only what `coverage` says of that feed, for docs/workbench.md.
"""

from __future__ import annotations

import copy
import os
import re
import shlex
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from click.testing import CliRunner

from hl7bridge import Translation, load_mappings, translate
from hl7bridge.cli.main import cli
from hl7bridge.cli.mappings import count
from hl7bridge.cli.translate import pretty_json
from hl7bridge.config.document import keys_document, sample
from hl7bridge.errors import MessageError
from hl7bridge.fhir.model import model
from hl7bridge.hl7v2.ack import CONDITIONS
from hl7bridge.hl7v2.batch import split
from hl7bridge.hl7v2.header import read_header
from hl7bridge.mapping.load import load_tables
from hl7bridge.mapping.mappings import Mappings
from hl7bridge.observe.log import FIELDS
from hl7bridge.observe.metrics import document as metrics_document
from hl7bridge.reasons import CATALOGUE

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "docs"))
import exchanges  # noqa: E402
import pages  # noqa: E402

WIDTH = 100
ZONE = ZoneInfo("Europe/Vienna")  # of the samples: one place for all, whatever machine makes the documents
SHOWS = {  # samples/<stem>.hl7: what a reader can learn from it
    "adt_a01_admit": "an admission with kin, allergies, diagnosis, procedure; answered in enhanced mode",
    "adt_a01_work_guarantor_accident": "beyond the guide: work, allergies by number, guarantors, accident, death",
    "adt_a02_transfer": "a transfer: the new bed is active, the former one completed",
    "adt_a03_discharge": "a discharge: the visit is finished, its period has an end",
    "adt_a04_register_v21": "a registration in version 2.1, with bare numbers and no offset in times",
    "adt_a05_preadmit": "a planned admission with its expected dates",
    "adt_a06_to_inpatient": "an outpatient becomes an inpatient; MRG names the former account",
    "adt_a08_update_null": 'an update; `""` in PID-13 and PID-14 deletes the telephone numbers',
    "adt_a09_depart_z_segment": "a segment of the sender's own (ZTR), which samples/site maps",
    "adt_a11_cancel_admit": "an admission taken back: the visit is cancelled",
    "adt_a12_cancel_transfer": "a transfer taken back: the patient is where PV1-3 says, the other bed is not told of",
    "adt_a13_cancel_discharge": "a discharge taken back: the visit is in progress again",
    "adt_a14_pending_admit": "an admission that is expected",
    "adt_a15_pending_transfer": "a transfer that is expected: the new bed is reserved",
    "adt_a16_pending_discharge": "a discharge that is expected: the visit has a planned end and goes on",
    "adt_a17_swap_beds": "two patients swap their beds: two of each, patient and visit",
    "adt_a18_merge_v22": "a merge in version 2.2, with bare numbers",
    "adt_a20_bed_status": "a bed is being cleaned: a Location and nothing else",
    "adt_a21_leave": "leave of absence: the visit is on leave, the bed is kept",
    "adt_a23_delete_visit": "a visit is deleted: entered in error, by the option delete-visit",
    "adt_a24_link": "two records of one person, linked: both go on",
    "adt_a28_new_person": "a person without a visit; a birth date known to the month",
    "adt_a31_update_person": "a person who died: PID-29 and PID-30",
    "adt_a37_unlink": "and no longer linked",
    "adt_a38_cancel_preadmit": "a planned admission taken back",
    "adt_a40_merge": "two records of one patient: the one that stays, and the one it replaces",
    "adt_a42_merge_visits": "two visits that are one: the other was entered in error",
    "adt_a44_move_account": "an account goes to another patient",
    "adt_a45_move_visit": "a visit goes to another patient and account",
    "adt_a47_change_number": "a patient gets another record number: found by the one he had, which stays as an old one",
    "adt_a50_change_visit_number": "a visit gets another number",
    "adt_a53_cancel_return": "a return from leave taken back: on leave again",
    "adt_a54_new_attending": "another doctor attends",
    "adt_a60_allergies": "allergies with numbers of their own: one added, one taken back",
    "adt_a61_new_consultant": "another doctor is consulted",
    "batch_two_admissions": "two messages in an FHS/BHS envelope",
    "broken_two_patients": "a second PID where the structure has one: refused by name, no bundle",
    "oru_r01_custom_separators": "separators of its own: `#` and `*`",
    "oru_r01_document": "a document in OBX-5 (ED)",
    "oru_r01_document_without_type": "OBX-2 is empty: a PDF, a number with a unit; a number sent as text; a person",
    "oru_r01_microbiology": "a culture with two organisms, the susceptibilities of one, lines of a text, comments",
    "oru_r01_taken_back": "results deleted (D) and wrong (W) lose their value, another is corrected",
    "oru_r01_v21": "an event is not named, the number stands in PID-2, the specimen in OBR-15",
    "oru_r01_lab_panel": "a panel: numbers, a comparison, a range, a code, a spoiled sample, order and specimen",
    "oru_r01_pending_and_corrected": "a result that is still to come, and one that was corrected",
    "oru_r01_text_report": "a report in words: repetitions of OBX-5 are lines",
    "oru_r01_timing_charge": "an order with timing, contact, charge and a document",
    "oru_r30_point_of_care": "a measurement at the bedside, without an order",
    "oru_r31_point_of_care_order_to_find": "a measurement at the bedside whose order has to be found",
    "oru_r32_point_of_care_ordered": "measurements at the bedside for an order that is known, by both its numbers",
    "oru_r40_alert": "an alarm of a monitor: what was measured, the limit, the device and the bed",
}


def commands_document() -> str:
    """docs/cli.md: the help of every command."""
    head = "# Commands\n\nMade by `make docs` from the commands' own help; a test keeps it so.\n"
    return "\n".join([head, *_with_subcommands(cli, "hl7bridge", None)])


def _with_subcommands(command: click.Command, name: str, above: click.Context | None) -> list[str]:
    command = copy.copy(command)
    command._help_option = None  # click keeps the one it made for whoever asked first
    options = ["-h", "--help"]  # as the frame's context settings say; a context made by hand does not know them
    with click.Context(command, above, name, terminal_width=WIDTH, color=False, help_option_names=options) as here:
        lines = "\n".join(line.rstrip() for line in command.get_help(here).splitlines())
        parts = [f"## `{here.command_path}`\n\n```\n{lines}\n```\n"]
        for sub in command.list_commands(here) if isinstance(command, click.Group) else ():
            found = command.get_command(here, sub)  # type: ignore[attr-defined]
            assert found is not None
            parts += _with_subcommands(found, sub, here)
    return parts


def log_document() -> str:
    """docs/log.md: every field a log line may have."""
    rows = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in FIELDS.items())
    return f"""# Log

Made by `make docs` from `hl7bridge/observe/log.py`; a test keeps it so. One line an event, on standard error; JSON,
or for people when standard error is a terminal (`observe.log_format`). Only these fields pass; the names of others are
listed under `dropped_fields`, their values are gone. Exceptions are told by type and place, never by text.

| field | meaning |
|---|---|
{rows}"""


def reasons_document() -> str:
    """docs/reasons.md: the catalogue of reasons."""
    rows = "".join(
        f"| `{reason.code}` | {reason.sentence} | {reason.original} / {reason.enhanced} "
        f"| {reason.condition} {CONDITIONS[reason.condition]} | {reason.whose} | {reason.remedy} |\n"
        for reason in CATALOGUE.values()
    )
    return f"""# Reasons

Made by `make docs` from `hl7bridge/reasons.py`; a test keeps it so. One list for everything that can go wrong with a
message: the reason names the directory of a dead letter, labels the metrics, stands in the log, and decides the answer
a sender gets when the reason is known before the answer is given (MSA-1 in original / enhanced mode, and ERR-3).

| reason | what happened | MSA-1 | ERR-3 (table 0357) | turn of | what to do |
|---|---|---|---|---|---|
{rows}"""


def translated_samples() -> Iterator[tuple[Path, str, bytes, Translation | None]]:
    """Each message of samples/: its file, the stem of its bundle, its bytes, its translation if it has one."""
    # one version for all: a change of the tables shows where it changes a bundle, and not in every sample
    mappings = Mappings(replace(load_tables(), version="of-the-tables"), model())
    for file in sorted((ROOT / "samples").glob("*.hl7")):
        for piece in split(file.read_bytes()):
            stem = file.stem if piece.number == 1 else f"{file.stem}-{piece.number}"
            try:
                yield file, stem, piece.raw, translate(piece.raw, mappings, zone=ZONE)
            except MessageError:
                yield file, stem, piece.raw, None


def samples_document() -> str:
    """samples/README.md: what each sample shows and what its bundle holds."""
    rows = []
    for file, stem, raw, result in translated_samples():
        header = read_header(raw)
        kinds = Counter(entry["resource"]["resourceType"] for entry in result.resource["entry"]) if result else {}
        held = ", ".join(f"{number} {kind}" if number > 1 else kind for kind, number in kinds.items())
        bundle = f"[{held}](expected/{stem}.json)" if result else "none"
        event = f"{header.message_code}^{header.trigger_event}"
        rows.append(f"| [{stem}]({file.name}) | {event} | {header.version} | {SHOWS[file.stem]} | {bundle} |\n")
    return f"""# Samples

Made by `make docs`; a test keeps it so. Invented people and places, written for this project. `expected/` holds the
bundle that each message gives with the shipped tables, as
`hl7bridge translate samples/*.hl7 --pretty --zone Europe/Vienna` prints it: a change of a table shows there as a
difference.
`site/` is a site's own folder of tables, `sites/` has folders for a site, a listener and a sender, explained in
[docs/mapping-guide.md](../docs/mapping-guide.md); `tutorial/` belongs to the [tutorial](../docs/tutorial.md).
`enhanced/` has a sender in enhanced mode (MSH-15/16 AL/NE and AL/AL) with every answer it gets, and the configuration
that gives it: [docs/behaviour.md](../docs/behaviour.md#the-application-ack-as-an-exchange-of-its-own).

| message | event | version | shows | bundle |
|---|---|---|---|---|
{"".join(rows)}"""


def workbench_document() -> str:
    """docs/workbench.md with the output of the commands that stand in its blocks; `| head 14` keeps so many lines."""
    text = (ROOT / "docs" / "workbench.md").read_text("utf-8")
    return re.sub(r"```\n\$ (hl7bridge .*)\n[^`]*(?:`(?!``)[^`]*)*```", _with_output, text)


def _with_output(block: re.Match[str]) -> str:
    command, _, head = block[1].partition(" | head ")
    words = [str(ROOT / word) if word.startswith("samples/") else word for word in shlex.split(command)[1:]]
    zone = ["--zone", str(ZONE)] if words[0] in ("explain", "coverage") else []
    output = CliRunner().invoke(cli, [*words, *zone]).stdout
    lines = output.splitlines()[: int(head) if head else None]
    return "\n".join(["```", f"$ {block[1]}", *lines, "```"])


def feed_coverage(text: str, feed: Path) -> str:
    """docs/workbench.md with what `coverage` says of a feed: of each list the first lines, and what fails the gate.

    Minutes for 20,000 messages, so on demand only; the page names the file, not where it is.
    """
    words = ["coverage", str(feed), "--zone", str(ZONE), "--fail-below", "85"]
    result = CliRunner().invoke(cli, words)
    parts = [part.splitlines() for part in result.stdout.rstrip("\n").split("\n\n")]
    lines = "\n\n".join("\n".join(_first(part)) for part in parts)
    command = f"$ hl7bridge {' '.join(words)}".replace(str(feed), feed.name)
    block = f"```console\n{command}\n{lines}\n{result.stderr.strip()}\n```"
    shown = "\n".join(line.rstrip() for line in block.splitlines())
    return re.sub(r"```console\n\$ hl7bridge coverage .*?\n```", lambda _: shown, text, flags=re.DOTALL)


def _first(lines: list[str], kept: int = 14) -> list[str]:
    """The head of a list and its last line, which sums up or says how many more there are."""
    return lines if len(lines) <= kept else [*lines[: kept - 2], "...", lines[-1]]


def expected_bundles() -> dict[str, bytes]:
    """samples/expected: file name to content."""
    return {f"{stem}.json": pretty_json(r.bundle) + b"\n" for _, stem, _, r in translated_samples() if r is not None}


DOCUMENTS: Mapping[str, Callable[[], str]] = {
    "hl7bridge.yaml": sample,
    "docs/configuration.md": keys_document,
    "docs/metrics.md": metrics_document,
    "docs/log.md": log_document,
    "docs/cli.md": commands_document,
}

PAGES = ("docs/tutorial.md", "docs/mapping-guide.md", "docs/comparison.md")  # their blocks are run as a reader would


def page(name: str) -> tuple[str, dict[str, str]]:
    """The page with the output of its commands, and the pictures of some: file name -> SVG."""
    return pages.made_anew((ROOT / name).read_text("utf-8"), ROOT / "samples")


def options_document() -> str:
    """docs/options.md: what the standard leaves to a site."""
    rows = "".join(
        f"| `{name}` | {one.says} | `{one.default}` | {' '.join(f'`{v}`' for v in one.values) or 'any text'} |\n"
        for name, one in sorted(load_tables().options.items())
    )
    return f"""# Options

Made by `make docs` from `mappings/options.yaml`; a test keeps it so. What the standard leaves to a site. Set them in
your folder's `options.yaml`, `set: {{ssn-country: other}}`, or try one:
`hl7bridge translate message.hl7 --set ssn-country=other`.
Which rows ask for an option: `hl7bridge mappings show PID-19` says so in the column HOW.

| option | decides | default | may be |
|---|---|---|---|
{rows}"""


MORE: Mapping[str, Callable[[], str]] = {  # compared by tests/docs
    "docs/reasons.md": reasons_document,
    "samples/README.md": samples_document,
    "docs/workbench.md": workbench_document,
    "docs/options.md": options_document,
    "docs/behaviour.md": lambda: behaviour_document(),
}


def readme() -> str:
    """README.md with the numbers that `mappings check` prints."""
    text = (ROOT / "README.md").read_text("utf-8")
    counts = count(load_mappings().tables)
    return re.sub(
        r"by \d+ tables with \d+\s+rows and \d+ codes",
        "by {tables} tables with {rows}\nrows and {codes} codes".format(**counts),
        text,
    )


def conformance(text: str) -> str:
    """README.md with what `mappings conformance` prints, where the guide's rows are at hand."""
    corpus = Path(os.environ.get("HL7BRIDGE_CORPUS", ROOT.parent / "shared" / "corpus"))
    if not (corpus.parent / "ig" / "ig_rows.csv").exists():
        return text
    shown = CliRunner().invoke(cli, ["mappings", "conformance", "--ig", str(corpus.parent / "ig")]).stdout
    table = shown.partition("\n\nwrong in R4")[0]
    return re.sub(
        r"(\$ hl7bridge mappings conformance --ig guide \| head 15\n)[^`]*", lambda m: f"{m[1]}{table}\n", text
    )


@cache
def answered() -> Mapping[str, bytes]:
    """samples/enhanced/expected: what a sender in enhanced mode is answered, at once and later."""
    return exchanges.answers(ROOT / "samples")


def behaviour_document() -> str:
    """docs/behaviour.md with these answers in its blocks."""
    return exchanges.with_answers((ROOT / "docs" / "behaviour.md").read_text("utf-8"), answered())


def main() -> None:
    if "--feed" in sys.argv:
        page_file = ROOT / "docs" / "workbench.md"
        feed = Path(sys.argv[sys.argv.index("--feed") + 1]).resolve()
        page_file.write_text(feed_coverage(page_file.read_text("utf-8"), feed), "utf-8")
        return
    for name, make in {**DOCUMENTS, **MORE}.items():
        (ROOT / name).write_text(make(), "utf-8")
        sys.stdout.write(f"wrote {name}\n")
    (ROOT / "README.md").write_text(readme(), "utf-8")
    if "--all" in sys.argv:
        (ROOT / "README.md").write_text(conformance(readme()), "utf-8")
    for name in PAGES if "--all" in sys.argv else ():
        text, pictures = page(name)
        (ROOT / name).write_text(text, "utf-8")
        for title, picture in pictures.items():
            (ROOT / "docs" / "pictures" / f"{title}.svg").write_text(picture, "utf-8")
        sys.stdout.write(f"wrote {name} and {len(pictures)} pictures\n")
    folder = ROOT / "samples" / "expected"
    folder.mkdir(exist_ok=True)
    bundles = expected_bundles()
    for file in folder.glob("*.json"):
        if file.name not in bundles:
            file.unlink()
    for name, bundle in bundles.items():
        (folder / name).write_bytes(bundle)
    for name, answer in answered().items():
        (ROOT / "samples" / "enhanced" / "expected" / name).write_bytes(answer)
    sys.stdout.write(f"wrote {len(bundles)} bundles to samples/expected\n")


if __name__ == "__main__":
    main()
