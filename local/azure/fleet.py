"""A fleet: a directory of raw ARM JSON, and what its files hold.

Every `*.json`, in sub-directories too, is a resource, an array of them, or a list response
(`{"value": […]}`), as Azure returns them; subscriptions may be among them. Six names are kept for other
things, each a JSON object: `access.json`, `service-tags.json`, `*.adminrules.json`, `names.json` and
`*.nodes.json` (see the modules of these names), and `*.metrics.json`.
"""

import json
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.azure import admin_rules, metric_files, names, nodes, service_tags
from local.azure.access import Denial
from local.azure.arm import ArmPath, Json, MalformedError, key


class FleetError(Exception):
    """A fleet that cannot be read: one line with the file, the place in it, and what is wrong."""


@dataclass(frozen=True, slots=True)
class Fleet:
    """What was read from the directory, as it was written there."""

    resources: dict[str, Json]
    """Documents by their id in lower case, in the order of the files; subscriptions included."""
    denials: tuple[Denial, ...]
    """What the identity may not do."""
    metrics_files: int
    """How many `*.metrics.json` there are."""
    metrics: dict[str, tuple[metric_files.Series, ...]]
    """What Azure Monitor has counted, by the key of a resource's id."""
    nodes_files: int
    """How many `*.nodes.json` there are."""
    nodes: dict[str, nodes.Entry]
    """What nodes are like inside, by the key of a machine's, scale set's or virtual network's id."""
    service_tags: Json | None
    """Azure's list of service tags; None where the fleet has none."""
    admin_rules: dict[str, tuple[Json, ...]]
    """The security admin rules in force, by the key of the virtual network's id."""
    names: dict[str, names.Answer]
    """What host names resolve to, by `names.key`."""


class _Once[Key: Hashable, Value]:
    """What the files may say once, or several times alike."""

    def __init__(self) -> None:
        self.values: dict[Key, Value] = {}
        self._origins: dict[Key, str] = {}

    def add(self, key: Key, value: Value, *, place: str, what: str) -> None:
        """Take a value; raises FleetError if another file, or place, has another one."""
        if self.values.setdefault(key, value) != value:
            raise FleetError(f"{place}: {what} is also in {self._origins[key]}, with other content")
        self._origins.setdefault(key, place)


def load(directory: Path) -> Fleet:
    """Read a fleet, or raise FleetError."""
    if not directory.is_dir():
        raise FleetError(f"{directory}: no such directory")
    files = sorted(directory.rglob("*.json"))
    if not files:
        raise FleetError(f"{directory}: no *.json file in it")
    resources: _Once[str, Json] = _Once()
    denials: list[Denial] = []
    counted: _Once[str, tuple[metric_files.Series, ...]] = _Once()
    entries: _Once[str, nodes.Entry] = _Once()
    tags: _Once[None, Json] = _Once()
    rules: _Once[tuple[str, str], Json] = _Once()
    hosts: _Once[str, names.Answer] = _Once()
    for file in files:
        content = _read(file)
        if file.name == "access.json":
            denials.extend(_denials(file, content))
        elif file.name.endswith(".metrics.json"):
            with _in(file):
                for identifier, (written, series) in metric_files.check(content).items():
                    counted.add(identifier, series, place=str(file), what=f'"{written}"')
        elif file.name.endswith(".nodes.json"):
            with _in(file):
                for identifier, (written, entry) in nodes.check(content).items():
                    entries.add(identifier, entry, place=str(file), what=f'"{written}"')
        elif file.name == "service-tags.json":
            with _in(file):
                tags.add(None, service_tags.check(content), place=str(file), what="the list of service tags")
        elif file.name.endswith(".adminrules.json"):
            with _in(file):
                for network, place, rule in admin_rules.rules_in(content):
                    rules.add((network, key(rule["id"])), rule, place=f"{file}: {place}", what=rule["id"])
        elif file.name == "names.json":
            with _in(file):
                for host, (written, answer) in names.check(content).items():
                    hosts.add(host, answer, place=str(file), what=f'"{written}"')
        else:
            for place, document in _documents(file, content):
                resources.add(key(document["id"]), document, place=place, what=document["id"])
    in_force: dict[str, list[Json]] = {}
    for (network, _), rule in rules.values.items():
        in_force.setdefault(network, []).append(rule)
    return Fleet(
        resources=resources.values,
        denials=tuple(denials),
        metrics_files=sum(file.name.endswith(".metrics.json") for file in files),
        metrics=counted.values,
        nodes_files=sum(file.name.endswith(".nodes.json") for file in files),
        nodes=entries.values,
        service_tags=tags.values.get(None),
        admin_rules={network: tuple(found) for network, found in in_force.items()},
        names=hosts.values,
    )


def fingerprint(directory: Path) -> dict[str, tuple[int, int]]:
    """When each file of the fleet last changed, and its size: two that are equal need no second reading."""
    marks: dict[str, tuple[int, int]] = {}
    for file in directory.rglob("*.json"):
        try:
            status = file.stat()
        except FileNotFoundError:  # it went away while we looked
            continue
        marks[str(file)] = (status.st_mtime_ns, status.st_size)
    return marks


def check_document(document: Any) -> Json:
    """Say whether something is an ARM resource: an object with an ARM id; MalformedError if it is not."""
    if not isinstance(document, dict):
        raise MalformedError("not an object")
    identifier = document.get("id")
    if not isinstance(identifier, str):
        raise MalformedError('no "id"')
    try:
        path = ArmPath.parse(identifier)
    except MalformedError as error:
        raise MalformedError(f'"id" is no ARM id: {error}: {identifier}') from None
    if path.is_collection:
        raise MalformedError(f'"id" is no ARM id: it ends in a type without a name: {identifier}')
    if path.resource_group and not path.namespace:
        raise MalformedError(f'"id" is that of a resource group, which is not served: {identifier}')
    return document


def _read(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8-sig"))  # PowerShell writes a byte order mark
    except json.JSONDecodeError as error:
        raise FleetError(f"{file}:{error.lineno}:{error.colno}: not JSON: {error.msg}") from None
    except UnicodeDecodeError as error:
        raise FleetError(f"{file}: byte {error.start}: not UTF-8: {error.reason}") from None
    except OSError as error:
        raise FleetError(f"{file}: cannot be read: {error.strerror}") from None


@contextmanager
def _in(file: Path) -> Iterator[None]:
    """Give what is malformed the name of its file."""
    try:
        yield
    except MalformedError as error:
        raise FleetError(f"{file}: {error}") from None


def _object(file: Path, content: Any) -> Json:
    if not isinstance(content, dict):
        raise FleetError(f"{file}: not a JSON object")
    return content


def _documents(file: Path, content: Any) -> Iterator[tuple[str, Json]]:
    if isinstance(content, dict) and "id" not in content and isinstance(content.get("value"), list):
        elements = [(f"{file}: value[{index}]", item) for index, item in enumerate(content["value"])]
    elif isinstance(content, list):
        elements = [(f"{file}: [{index}]", item) for index, item in enumerate(content)]
    else:
        elements = [(str(file), content)]
    for place, element in elements:
        try:
            yield place, check_document(element)
        except MalformedError as error:
            raise FleetError(f"{place}: {error}") from None


def _denials(file: Path, content: Any) -> Iterator[Denial]:
    entries = _object(file, content).get("deny")
    if not isinstance(entries, list):
        raise FleetError(f'{file}: no list "deny"')
    for index, entry in enumerate(entries):
        try:
            yield Denial.parse(entry)
        except MalformedError as error:
            raise FleetError(f"{file}: deny[{index}]: {error}") from None
