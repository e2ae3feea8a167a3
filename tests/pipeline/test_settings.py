"""App settings: what each value of the environment becomes, or the error that names it."""

from datetime import timedelta

import pytest

from pipeline.settings import DEFAULT_PROBE_SCHEDULE, DEFAULT_SCHEDULE, Settings, SettingsError, load

ONE = "0b1f6471-1bf0-4dda-aec3-cb9272f09590"
TWO = "6c0b6a52-3a0e-4a58-9d0c-0f5a3b1e7c41"


def test_defaults() -> None:
    """Nothing has to be set but storage, and that only where it is used."""
    assert load({}) == Settings(
        scan_schedule=DEFAULT_SCHEDULE,
        subscription_ids=(),
        arm_endpoint="https://management.azure.com",
        retention_days=90,
        scan_timeout_seconds=240,
        tunnel="konnectivity",
        dns_server=None,
        storage={},
        otlp_endpoint="",
    )


def test_the_environment_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping, the process's own."""
    monkeypatch.setenv("RETENTION_DAYS", "7")
    assert load().retention_days == 7


@pytest.mark.parametrize(
    ("name", "text", "field", "value"),
    [
        ("SCAN_SCHEDULE", "", "scan_schedule", DEFAULT_SCHEDULE),
        ("SCAN_SCHEDULE", "30 */5 8-17 * * 1-5", "scan_schedule", "30 */5 8-17 * * 1-5"),
        ("AZURE_SUBSCRIPTION_IDS", "", "subscription_ids", ()),
        ("AZURE_SUBSCRIPTION_IDS", " ,; ", "subscription_ids", ()),
        ("AZURE_SUBSCRIPTION_IDS", ONE, "subscription_ids", (ONE,)),
        ("AZURE_SUBSCRIPTION_IDS", f"{ONE.upper()},{TWO}", "subscription_ids", (ONE, TWO)),
        ("AZURE_SUBSCRIPTION_IDS", f" {ONE} ; {TWO}\n{ONE} ", "subscription_ids", (ONE, TWO)),
        ("ARM_ENDPOINT", "", "arm_endpoint", "https://management.azure.com"),
        (
            "ARM_ENDPOINT",
            "https://management.chinacloudapi.cn/",
            "arm_endpoint",
            "https://management.chinacloudapi.cn",
        ),
        ("ARM_ENDPOINT", "http://127.0.0.1:8500", "arm_endpoint", "http://127.0.0.1:8500"),
        ("RETENTION_DAYS", "", "retention_days", 90),
        ("RETENTION_DAYS", "1", "retention_days", 1),
        ("RETENTION_DAYS", "3650", "retention_days", 3650),
        ("SCAN_TIMEOUT_SECONDS", "10", "scan_timeout_seconds", 10),
        ("SCAN_TIMEOUT_SECONDS", "540", "scan_timeout_seconds", 540),
        (
            "AzureWebJobsStorage",
            "UseDevelopmentStorage=true",
            "storage",
            {"AzureWebJobsStorage": "UseDevelopmentStorage=true"},
        ),
        ("AzureWebJobsStorage__accountName", "sa", "storage", {"AzureWebJobsStorage__accountName": "sa"}),
        ("TUNNEL", "", "tunnel", "konnectivity"),
        ("TUNNEL", " Tunnel-Front ", "tunnel", "tunnel-front"),
        ("TUNNEL", "aks-link", "tunnel", "aks-link"),
        ("NODE_PROBES", "", "node_probes", False),
        ("NODE_PROBES", "off", "node_probes", False),
        ("NODE_PROBES", " On ", "node_probes", True),
        ("NODE_PROBE_SCHEDULE", "", "node_probe_schedule", DEFAULT_PROBE_SCHEDULE),
        ("NODE_PROBE_SCHEDULE", "0 0 */6 * * *", "node_probe_schedule", "0 0 */6 * * *"),
        ("NODE_PROBES_PER_POOL", "", "node_probes_per_pool", 3),
        ("NODE_PROBES_PER_POOL", "1", "node_probes_per_pool", 1),
        ("DNS_SERVER", "", "dns_server", None),
        ("DNS_SERVER", "10.0.0.53", "dns_server", ("10.0.0.53", 53)),
        ("DNS_SERVER", " 10.0.0.53:5353 ", "dns_server", ("10.0.0.53", 5353)),
        ("DNS_SERVER", "fd00::53", "dns_server", ("fd00::53", 53)),
        ("DNS_SERVER", "[fd00::53]", "dns_server", ("fd00::53", 53)),
        ("DNS_SERVER", "[fd00::53]:5353", "dns_server", ("fd00::53", 5353)),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318", "otlp_endpoint", "http://127.0.0.1:4318"),
    ],
)
def test_a_setting(name: str, text: str, field: str, value: object) -> None:
    """Its field, and what the text becomes; all others keep their defaults."""
    loaded = load({name: text, "PATH": "/bin"})
    assert getattr(loaded, field) == value
    others = set(Settings.__struct_fields__) - {field}
    assert all(getattr(loaded, other) == getattr(load({}), other) for other in others)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("SCAN_SCHEDULE", "*/15 * * * *"),
        ("SCAN_SCHEDULE", "every 15 minutes or so, please"),
        ("SCAN_SCHEDULE", "0 */15 * * * * *"),
        ("SCAN_SCHEDULE", "0 99 * * * *"),
        ("SCAN_SCHEDULE", "00:15:00"),
        ("SCAN_SCHEDULE", "0 0 0 30 2 *"),
        ("AZURE_SUBSCRIPTION_IDS", "production"),
        ("AZURE_SUBSCRIPTION_IDS", f"/subscriptions/{ONE}"),
        ("AZURE_SUBSCRIPTION_IDS", f"{ONE},{TWO[:-1]}"),
        ("ARM_ENDPOINT", "management.azure.com"),
        ("ARM_ENDPOINT", "https://management.azure.com/subscriptions"),
        ("ARM_ENDPOINT", "ftp://management.azure.com"),
        ("ARM_ENDPOINT", "https://two words"),
        ("RETENTION_DAYS", "0"),
        ("RETENTION_DAYS", "3651"),
        ("RETENTION_DAYS", "-1"),
        ("RETENTION_DAYS", "90 days"),
        ("RETENTION_DAYS", "1.5"),
        ("SCAN_TIMEOUT_SECONDS", "9"),
        ("SCAN_TIMEOUT_SECONDS", "541"),
        ("TUNNEL", "openvpn"),
        ("NODE_PROBES", "yes please"),
        ("NODE_PROBE_SCHEDULE", "hourly"),
        ("NODE_PROBES_PER_POOL", "0"),
        ("NODE_PROBES_PER_POOL", "51"),
        ("DNS_SERVER", "dns.example.com"),
        ("DNS_SERVER", "10.0.0.53:0"),
        ("DNS_SERVER", "10.0.0.53:dns"),
        ("DNS_SERVER", "10.0.0.53:65536"),
        ("DNS_SERVER", "10.0.0"),
    ],
)
def test_a_setting_that_cannot_be_used_is_named(name: str, text: str) -> None:
    """The message opens with the setting's name and shows what is wrong with it."""
    with pytest.raises(SettingsError, match=rf"^{name}: ") as raised:
        load({name: text})
    assert text.rsplit(",", maxsplit=1)[-1] in str(raised.value)


@pytest.mark.parametrize(
    ("schedule", "longest"),
    [
        ("0 */15 * * * *", timedelta(minutes=15)),
        ("30 */5 * * * *", timedelta(minutes=5)),
        ("0 */7 * * * *", timedelta(minutes=7)),
        ("*/20 * * * * *", timedelta(seconds=20)),
        ("0 0 * * * *", timedelta(hours=1)),
        ("0 0 8,12 * * *", timedelta(hours=20)),
        ("0 0 8 * * 1-5", timedelta(days=3)),
        ("0 0 8 * * Mon", timedelta(days=7)),
    ],
)
def test_scan_interval(schedule: str, longest: timedelta) -> None:
    """The longest time that lies between two scans."""
    assert load({"SCAN_SCHEDULE": schedule}).scan_interval == longest


def test_day_and_weekday_have_to_match_both() -> None:
    """NCRONTAB's own reading: the first of a month that is a Monday, which takes months."""
    assert load({"SCAN_SCHEDULE": "0 0 0 1 * 1"}).scan_interval > timedelta(days=100)
