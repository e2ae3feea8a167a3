"""Times as they are written everywhere: UTC, ISO 8601, whole seconds."""

from datetime import UTC, datetime


def timestamp(moment: datetime) -> str:
    """`2026-01-31T08:15:00Z`."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
