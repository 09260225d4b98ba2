"""hl7bridge.yaml and HL7BRIDGE_* as one plain tree, each value with the place it came from.

What holds: every scalar stays the text that was written (`2.10`, `NO`, `1e3`), the models convert it; YAML's null and
an empty environment variable mean "not set". Mistakes are collected, not raised: the caller reports all at once.
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import yaml

from hl7bridge.config import shape

PREFIX = "HL7BRIDGE_"
# names with our prefix that are no keys: the file itself, and what the tests are told
OTHER_NAMES = frozenset({"HL7BRIDGE_CONFIG", "HL7BRIDGE_CORPUS", "HL7BRIDGE_SERVERS"})
# Kubernetes sets these in every pod beside a service named "hl7bridge"
_SERVICE_LINK = re.compile(r"HL7BRIDGE_(SERVICE_(HOST|PORT(_\w+)?)|PORT_\d+_(TCP|UDP)(_\w+)?)")
_DEEPEST = 20

Value = str | list[Any] | dict[str, Any] | None


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was set: `file:line`, or the name of an environment variable."""

    file: str = ""
    line: int = 0
    variable: str = ""

    def __str__(self) -> str:
        return f"environment {self.variable}" if self.variable else f"{self.file}:{self.line}"


@dataclass(slots=True)
class Tree:
    """The values, the origin of each path, and the mistakes found while reading: (origin, path, reason)."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[shape.Path, Origin] = field(default_factory=dict)
    mistakes: list[tuple[Origin, shape.Path, str]] = field(default_factory=list)

    def origin(self, path: shape.Path) -> Origin | None:
        """The origin of a path, or of the nearest key above it that was set."""
        for length in range(len(path), 0, -1):
            if found := self.origins.get(path[:length]):
                return found
        return None


def suggestion(word: str, known: list[str]) -> str:
    """`; did you mean 'port'?`, or the known keys when nothing is near."""
    near = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean '{near[0]}'?" if near else f"; known here: {', '.join(sorted(known))}"


def read_yaml(tree: Tree, text: str, file: str) -> None:
    """Adds a file's keys to the tree."""
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        tree.mistakes.append((Origin(file, mark.line + 1 if mark else 1), (), f"not YAML: {error.problem}"))
        return
    except yaml.YAMLError as error:
        tree.mistakes.append((Origin(file, 1), (), f"not YAML: {type(error).__name__}"))
        return
    if node is None:
        return
    if not isinstance(node, yaml.MappingNode):
        tree.mistakes.append((Origin(file, node.start_mark.line + 1), (), "must hold keys, such as `journal:`"))
        return
    values = _plain(tree, node, (), file)
    tree.values = values if isinstance(values, dict) else {}


def _plain(tree: Tree, node: yaml.Node, path: shape.Path, file: str) -> Value:
    """One YAML node as a plain value; notes origins and duplicate keys."""
    here = Origin(file, node.start_mark.line + 1)
    if path:
        tree.origins.setdefault(path, here)
    if len(path) > _DEEPEST:
        tree.mistakes.append((here, path[:3], "is nested too deep"))
        return None
    if isinstance(node, yaml.MappingNode):
        table: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = str(key_node.value)
            at = Origin(file, key_node.start_mark.line + 1)
            if key in table:
                tree.mistakes.append((at, (*path, key), "stands here twice"))
                continue
            tree.origins[(*path, key)] = at
            table[key] = _plain(tree, value_node, (*path, key), file)
        return {key: value for key, value in table.items() if value is not None}
    if isinstance(node, yaml.SequenceNode):
        items = [_plain(tree, child, (*path, index), file) for index, child in enumerate(node.value)]
        return [{} if value is None else value for value in items]
    return None if node.tag == "tag:yaml.org,2002:null" else str(node.value)


def read_environment(tree: Tree, environ: Mapping[str, str]) -> None:
    """Lays HL7BRIDGE_A__0__B over the tree: double underscore is a level, digits an index of a list.

    In order of name, so that a whole list (`HL7BRIDGE_LISTENERS`) is laid before its parts.
    """
    for name in sorted(environ):
        value = environ[name].strip()
        if not name.startswith(PREFIX) or name in OTHER_NAMES or _SERVICE_LINK.fullmatch(name) or not value:
            continue
        if name == "HL7BRIDGE_PORT" and "://" in value:  # the one service link that needs its value looked at
            continue
        steps = _steps(name.removeprefix(PREFIX))
        annotation = shape.at(steps)
        if annotation is None:
            tree.mistakes.append((Origin(variable=name), (), "unknown key" + _suggest_variable(steps)))
        else:
            _lay(tree, steps, _parsed(value, annotation), name)


def _steps(rest: str) -> shape.Path:
    steps: list[str | int] = []
    for part in rest.split("__"):
        if shape.is_table(shape.at(tuple(steps))):  # free names: X_TENANT_ID is x-tenant-id
            steps.append(part.lower().replace("_", "-"))
        else:
            steps.append(int(part) if part.isdigit() else part.lower())
    return tuple(steps)


def _suggest_variable(steps: shape.Path) -> str:
    """Suggests for the first step that is no key."""
    for length in range(1, len(steps) + 1):
        if shape.at(steps[:length]) is None:
            above = shape.at(steps[: length - 1])
            model = shape.section(above)
            if model is None:
                return "; digits name an item of a list" if shape.item(above) else ""
            names = [variable((*steps[: length - 1], key)) for key in shape.keys(model)]
            return suggestion(variable(steps[:length]), names)
    return ""


def variable(path: shape.Path) -> str:
    """The environment variable of a path."""
    return PREFIX + "__".join(str(step).upper().replace("-", "_") for step in path)


def _parsed(text: str, annotation: object) -> Value:
    """A list or section as YAML flow (`[a, b]`, `{a: b}`), a list of words also as `a, b`; else the text."""
    listed = shape.item(annotation) is not None
    if not (listed or shape.is_table(annotation) or shape.section(annotation)):
        return text
    if listed and not text.startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        value = yaml.load(text, Loader=yaml.BaseLoader)  # makes texts, lists and dictionaries only
    except yaml.YAMLError:
        return text  # the model then says what it should be
    return value if isinstance(value, (list, dict)) else text


def _lay(tree: Tree, steps: shape.Path, value: Value, name: str) -> None:
    """Sets one path, making what is missing above it. An index may be at most one past the end."""
    values = copy.deepcopy(tree.values)  # a mistake half-way down leaves nothing behind
    here: Any = values
    for depth, step in enumerate(steps):
        last = depth == len(steps) - 1
        fresh: Any = value if last else ([] if isinstance(steps[depth + 1], int) else {})
        if isinstance(step, int):
            if not isinstance(here, list) or step > len(here):
                count = len(here) if isinstance(here, list) else 0
                tree.mistakes.append((Origin(variable=name), (), f"index {step}, but the list has only {count} items"))
                return
            if step == len(here):
                here.append(fresh)
            elif last:
                here[step] = fresh
        elif not isinstance(here, dict):
            return  # the file's value is of the wrong shape; that is reported for the file
        elif last or not isinstance(here.get(step), (dict, list)):
            here[step] = fresh
        here = here[step]
    tree.values = values
    for path in [path for path in tree.origins if path[: len(steps)] == steps]:
        del tree.origins[path]
    tree.origins[steps] = Origin(variable=name)
