"""What a function app is configured with: ``host.json``, ``local.settings.json`` and the environment.

The shapes are those of the host.json reference for Functions 2.x and later, and of the ``Values`` section
that Azure Functions Core Tools read; as there, what the environment says wins over ``local.settings.json``.
"""

import base64
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

_TIME_SPAN = re.compile(
    r"(?:(?P<days>\d+)\.)?(?P<hours>\d{1,2}):(?P<minutes>\d{1,2})(?::(?P<seconds>\d{1,2}(?:\.\d{1,7})?))?"
)
_SETTING = re.compile(r"%([^%]+)%")

DEVELOPMENT_POLLING_INTERVAL = timedelta(seconds=2)
"""How rarely a queue is looked at when ``maxPollingInterval`` is left at its default: the Storage
extension takes two seconds instead of a minute when the environment is ``Development``, as it is under
Core Tools."""


class ConfigurationError(Exception):
    """The app cannot be run as it is configured; the message is for the person who configured it."""


class UnresolvedSettingError(ConfigurationError):
    """A binding names a setting that is not there."""


@dataclass(frozen=True)
class QueueOptions:
    """``extensions.queues`` of ``host.json``."""

    max_polling_interval: timedelta = DEVELOPMENT_POLLING_INTERVAL
    """The longest time between two looks at an empty queue."""
    visibility_timeout: timedelta = timedelta(0)
    """How long a message stays hidden after a failed try."""
    batch_size: int = 16
    """Messages fetched at once."""
    new_batch_threshold: int = 8
    """Running messages at or below which the next batch is fetched."""
    max_dequeue_count: int = 5
    """Tries before a message goes to the poison queue."""
    base64_encoded: bool = True
    """Whether the text of a message is base64 (``messageEncoding``)."""


@dataclass(frozen=True)
class HostConfig:
    """``host.json``, as far as it matters on a laptop."""

    route_prefix: str = "api"
    function_timeout: timedelta | None = timedelta(minutes=30)
    """How long an invocation may take; ``None`` is for ever."""
    queues: QueueOptions = field(default_factory=QueueOptions)
    log_levels: Mapping[str, str] = field(default_factory=dict)


def parse_time_span(value: object, name: str) -> timedelta:
    """A .NET time span, ``[d.]hh:mm[:ss[.fff]]``."""
    match = _TIME_SPAN.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ConfigurationError(f"host.json: {name} is {value!r}, not a time span such as 00:00:30")
    parts = {unit: float(amount) for unit, amount in match.groupdict().items() if amount}
    return timedelta(**parts)


def _section(parent: Mapping[str, Any], *names: str) -> Mapping[str, Any]:
    for name in names:
        found = parent.get(name) or {}
        if not isinstance(found, dict):
            raise ConfigurationError(f"host.json: {name} is {found!r}, not an object")
        parent = found
    return parent


def _number(section: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = section.get(name, default)
    if not isinstance(value, int) or not least <= value <= most:
        raise ConfigurationError(f"host.json: {name} is {value!r}, not a number from {least} to {most}")
    return value


def _read_json(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise ConfigurationError(f"{path} is not JSON: {error}") from error
    if not isinstance(document, dict):
        raise ConfigurationError(f"{path} is not a JSON object")
    return document


def _read_queue_options(section: Mapping[str, Any]) -> QueueOptions:
    batch_size = _number(section, "batchSize", 16, 1, 32)
    polling = parse_time_span(section.get("maxPollingInterval", "00:01:00"), "maxPollingInterval")
    if polling < timedelta(milliseconds=100):
        raise ConfigurationError("host.json: maxPollingInterval is less than 00:00:00.100")
    encoding = section.get("messageEncoding", "base64")
    if not isinstance(encoding, str) or encoding.lower() not in {"base64", "none"}:
        raise ConfigurationError(f'host.json: messageEncoding is {encoding!r}, not "base64" or "none"')
    return QueueOptions(
        max_polling_interval=DEVELOPMENT_POLLING_INTERVAL if polling == timedelta(minutes=1) else polling,
        visibility_timeout=parse_time_span(section.get("visibilityTimeout", "00:00:00"), "visibilityTimeout"),
        batch_size=batch_size,
        new_batch_threshold=_number(section, "newBatchThreshold", batch_size // 2, 0, 1000),
        max_dequeue_count=_number(section, "maxDequeueCount", 5, 1, 1_000_000),
        base64_encoded=encoding.lower() == "base64",
    )


def read_host_json(app: Path) -> HostConfig:
    """Read ``host.json`` of an app directory."""
    path = app / "host.json"
    if not path.exists():
        raise ConfigurationError(
            f"Unable to find project root. Expecting to find host.json in {app}. Name the app with --app."
        )
    document = _read_json(path)
    if document.get("version") != "2.0":
        raise ConfigurationError(
            f"The {path} file is missing the required 'version' property, or it is not '2.0'."
        )
    extensions = _section(document, "extensions")
    timeout = document.get("functionTimeout", "00:30:00")
    return HostConfig(
        route_prefix=str(_section(extensions, "http").get("routePrefix", "api")).strip("/"),
        function_timeout=None if timeout in ("-1", -1) else parse_time_span(timeout, "functionTimeout"),
        queues=_read_queue_options(_section(extensions, "queues")),
        log_levels={
            category: str(level) for category, level in _section(document, "logging", "logLevel").items()
        },
    )


class AppSettings:
    """The app settings: what the environment says, and beneath it ``Values`` of ``local.settings.json``.

    Names are looked up as .NET configuration does it: whatever their case, and with ``:`` standing for
    ``__``.
    """

    def __init__(self, values: Mapping[str, str]) -> None:
        self._values = dict(values)
        self._folded = {name.lower(): value for name, value in self._values.items()}

    @classmethod
    def read(cls, app: Path) -> "AppSettings":
        """The settings of the app in this directory."""
        path = app / "local.settings.json"
        values: dict[str, str] = {
            "FUNCTIONS_WORKER_RUNTIME": "python",
            "AZURE_FUNCTIONS_ENVIRONMENT": "Development",
        }
        if path.exists():
            document = _read_json(path)
            if document.get("IsEncrypted"):
                raise ConfigurationError(
                    f"{path} is encrypted, which only Azure Functions Core Tools can read"
                )
            section = document.get("Values") or {}
            if not isinstance(section, dict) or not all(isinstance(value, str) for value in section.values()):
                raise ConfigurationError(f"{path}: Values is not an object of strings")
            values |= section
        return cls(values | os.environ)

    @property
    def environment(self) -> dict[str, str]:
        """All of them, as the worker's environment."""
        return dict(self._values)

    def get(self, name: str) -> str | None:
        """One setting, if it is there."""
        return self._folded.get(name.lower(), self._folded.get(name.replace(":", "__").lower()))

    def resolve(self, text: str) -> str:
        """A binding's property with every ``%NAME%`` in it replaced by that setting."""

        def value(match: re.Match[str]) -> str:
            found = self.get(match[1])
            if found is None:
                raise UnresolvedSettingError(f"'%{match[1]}%' does not resolve to a value.")
            return found

        return _SETTING.sub(value, text)


def new_key() -> str:
    """A function key of the kind Azure makes: 32 random bytes, base64 for URLs."""
    return base64.urlsafe_b64encode(os.urandom(32)).decode()
