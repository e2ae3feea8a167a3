"""The app settings, read from the environment once and checked."""

import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from itertools import pairwise
from typing import Any

from msgspec import Struct

DEFAULT_SCHEDULE = "0 */15 * * * *"
"""Every 15 minutes, as an NCRONTAB expression: second, minute, hour, day, month, weekday."""
DEFAULT_PROBE_SCHEDULE = "0 5 * * * *"
"""Hourly, five minutes past, apart from the scans of the default schedule."""
PUBLIC_CLOUD = "https://management.azure.com"
TUNNELS = ("konnectivity", "tunnel-front", "aks-link")
"""What may carry a cluster's tunnel."""

_SUBSCRIPTION = re.compile(r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$", re.IGNORECASE)


class SettingsError(ValueError):
    """A setting has a value that cannot be used; the message names it."""


class Settings(Struct, frozen=True, kw_only=True):
    """What can be set, with its defaults. `load` says what each is called in the environment."""

    scan_schedule: str = DEFAULT_SCHEDULE
    subscription_ids: tuple[str, ...] = ()
    """The subscriptions to watch; empty for all that the identity can read."""
    arm_endpoint: str = PUBLIC_CLOUD
    retention_days: int = 90
    scan_timeout_seconds: int = 240
    """How long one cluster's scan may take before it is given back to the queue; 540 at the most,
    since at 600 s the host ends the worker (`functionTimeout` in host.json)."""
    tunnel: str = "konnectivity"
    """What carries the tunnel of clusters whose tag `tunnelwatch:tunnel` does not say."""
    dns_server: tuple[str, int] | None = None
    """Whom to ask for API servers' names: address and port; `None` for the system's resolver."""
    node_probes: bool = False
    """Whether a script may be run on nodes, as root, to see what only they can tell."""
    node_probe_schedule: str = DEFAULT_PROBE_SCHEDULE
    node_probes_per_pool: int = 3
    """How many nodes of a pool are probed in one scan."""
    storage: Mapping[str, str]
    """The settings that begin with `AzureWebJobsStorage`."""
    otlp_endpoint: str = ""

    @property
    def scan_interval(self) -> timedelta:
        """The longest time between two scans that the schedule asks for, over its next runs."""
        return _longest(self.scan_schedule)

    @property
    def probe_interval(self) -> timedelta:
        """The longest time between two rounds of probes that the schedule asks for."""
        return _longest(self.node_probe_schedule)


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Read the settings; raises `SettingsError` naming the first that cannot be used."""
    env = os.environ if environment is None else environment
    return Settings(
        scan_schedule=_schedule(env, "SCAN_SCHEDULE", DEFAULT_SCHEDULE),
        subscription_ids=_subscriptions(env.get("AZURE_SUBSCRIPTION_IDS", "")),
        arm_endpoint=_endpoint(env.get("ARM_ENDPOINT") or PUBLIC_CLOUD),
        retention_days=_number(env, "RETENTION_DAYS", 90, 1, 3650),
        scan_timeout_seconds=_number(env, "SCAN_TIMEOUT_SECONDS", 240, 10, 540),
        tunnel=_tunnel(env.get("TUNNEL") or "konnectivity"),
        dns_server=_dns_server(env.get("DNS_SERVER", "")),
        node_probes=_switch(env, "NODE_PROBES"),
        node_probe_schedule=_schedule(env, "NODE_PROBE_SCHEDULE", DEFAULT_PROBE_SCHEDULE),
        node_probes_per_pool=_number(env, "NODE_PROBES_PER_POOL", 3, 1, 50),
        storage={name: value for name, value in env.items() if name.startswith("AzureWebJobsStorage")},
        otlp_endpoint=env.get("OTEL_EXPORTER_OTLP_ENDPOINT", ""),
    )


def _runs(schedule: str) -> Any:
    """The times of a schedule: as NCRONTAB has it, both the day and the weekday have to match."""
    from croniter import croniter

    return croniter(schedule, datetime(2026, 1, 1, tzinfo=UTC), second_at_beginning=True, day_or=False)


def _longest(schedule: str) -> timedelta:
    """The longest time between two runs of a schedule, over its next ones."""
    runs = _runs(schedule)
    times: list[datetime] = [runs.get_next(datetime) for _ in range(100)]
    return max(later - earlier for earlier, later in pairwise(times))


def _schedule(env: Mapping[str, str], name: str, default: str) -> str:
    text = env.get(name) or default
    comes_up = len(text.split()) == 6
    try:
        _runs(text).get_next()
    except (ValueError, KeyError):
        comes_up = False
    if not comes_up:
        raise SettingsError(
            f"{name}: {text!r} is no NCRONTAB expression of six fields that ever comes up, "
            f"such as {default!r}"
        )
    return text


def _switch(env: Mapping[str, str], name: str) -> bool:
    text = env.get(name, "").strip().lower()
    if text not in {"", "on", "off"}:
        raise SettingsError(f"{name}: {env[name]!r} is neither on nor off")
    return text == "on"


def _subscriptions(text: str) -> tuple[str, ...]:
    ids = tuple(dict.fromkeys(part.lower() for part in re.split(r"[\s,;]+", text) if part))
    for one in ids:
        if not _SUBSCRIPTION.match(one):
            raise SettingsError(f"AZURE_SUBSCRIPTION_IDS: {one!r} is no subscription id (a GUID)")
    return ids


def _endpoint(text: str) -> str:
    if not re.match(r"^https?://[^/\s]+/?$", text):
        raise SettingsError(f"ARM_ENDPOINT: {text!r} is no address such as {PUBLIC_CLOUD!r}")
    return text.rstrip("/")


def _tunnel(text: str) -> str:
    if text.strip().lower() not in TUNNELS:
        raise SettingsError(f"TUNNEL: {text!r} is none of {', '.join(TUNNELS)}")
    return text.strip().lower()


def _dns_server(text: str) -> tuple[str, int] | None:
    """`10.0.0.53`, `10.0.0.53:5353` or `[fd00::53]:5353`; nothing means the system's resolver."""
    if not text.strip():
        return None
    shape = re.fullmatch(r"(?:\[([^\]]+)\]|([^:]+))(?::(\w+))?", text.strip())
    # An IPv6 address without brackets has no port.
    address = (shape[1] or shape[2]) if shape else text.strip()
    port = (shape[3] if shape else None) or "53"
    try:
        parsed = ip_address(address)
    except ValueError as error:
        raise SettingsError(
            f"DNS_SERVER: {text!r} is no IP address such as 10.0.0.53 or 10.0.0.53:53"
        ) from error
    if not port.isdecimal() or not 0 < int(port) < 65536:
        raise SettingsError(f"DNS_SERVER: {text!r} has no port from 1 to 65535")
    return str(parsed), int(port)


def _number(env: Mapping[str, str], name: str, default: int, low: int, high: int) -> int:
    text = env.get(name, "")
    if not text:
        return default
    if not text.isdecimal() or not low <= int(text) <= high:
        raise SettingsError(f"{name}: {text!r} is no whole number from {low} to {high}")
    return int(text)
