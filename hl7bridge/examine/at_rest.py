"""What is stored: who may read it, whether it is encrypted, whether something of it is damaged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from hl7bridge.config import Config
from hl7bridge.delivery.disk import wider_than_private
from hl7bridge.errors import Hl7BridgeError
from hl7bridge.examine.finding import Finding
from hl7bridge.journal.files import DATABASE, whole
from hl7bridge.reasons import DAMAGED
from hl7bridge.sealing import open_keyring


def at_rest(config: Config) -> Iterator[Finding]:
    """Who may read what is stored, whether it is encrypted, whether something of it is damaged."""
    roots = [Path(config.journal.path), Path(config.dead_letters.path)]
    wide = wider_than_private(*roots)
    if wide:
        text = f"{wide[0]}" + (f" and {len(wide) - 1} more" if len(wide) > 1 else "") + " can be read by other users"
        yield Finding("FAIL", "modes", text, f"chmod -R go-rwx {' '.join(map(str, roots))}")
    else:
        yield Finding("ok", "modes", "journal and dead letters are this user's only")
    try:
        keyring = open_keyring(config.encryption)
    except Hl7BridgeError as error:
        yield Finding("FAIL", "encryption", str(error), "give the keys; nothing is lost meanwhile")
        return
    files = [Path(reference.removeprefix("file:")) for reference in config.encryption.keys.values()]
    open_keys = [path for path in files if path.is_file() and path.stat().st_mode & 0o077]
    if open_keys:
        yield Finding("FAIL", "encryption", f"{open_keys[0]} can be read by other users", f"chmod 600 {open_keys[0]}")
    elif keyring.active:
        yield Finding("ok", "encryption", f"at rest by '{keyring.active}', {len(keyring.ids)} keys load")
    elif config.encryption.accept_clear:
        yield Finding("ok", "encryption", "none: messages are stored in clear, as encryption.accept_clear says")
    else:
        remedy = "`hl7bridge keys new` makes a key; where the disk itself is encrypted, set encryption.accept_clear"
        yield Finding("warn", "encryption", "none: messages are stored in clear", remedy)
    damaged = roots[1] / DAMAGED.code
    if damaged.is_dir() and any(damaged.iterdir()):
        remedy = "see the disk, then `hl7bridge journal verify` and `hl7bridge dlq list --reason damaged`"
        yield Finding("FAIL", "journal content", "damaged messages are among the dead letters", remedy)
    yield from _file_of(roots[0])


def _file_of(journal: Path) -> Iterator[Finding]:
    """Every page of the journal's file, where that takes a second at most."""
    subject = "journal file"
    remedy = "see the disk; `hl7bridge journal verify` names what is hit, `journal salvage` saves the rest"
    try:
        sound = whole(journal)
    except Hl7BridgeError as error:
        yield Finding("FAIL", subject, str(error), remedy)
        return
    if sound is None:
        yield Finding("ok", subject, "too large to be looked at in passing: `hl7bridge journal verify` reads all of it")
    elif not sound:
        yield Finding("FAIL", subject, "pages of it are damaged", remedy)
    elif (journal / DATABASE).exists():
        yield Finding("ok", subject, "every page is whole")
