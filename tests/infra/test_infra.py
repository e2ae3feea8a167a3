"""What `azd up` deploys, compared with what the code reads, asks Azure for and is configured by.

There is no Azure here and no Bicep compiler: the files are parsed, their parts are checked against each
other, and the rights they grant are compared with what a scan of the sample fleet does.
"""

import ast
import importlib.util
import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pathspec
import pytest
import yaml
from pycep import BicepParser

from local.nodes.client import unavailable
from pipeline import settings
from pipeline.clients import Clients
from pipeline.collect import inventory, kinds, metrics
from pipeline.pace import READING_POSTS
from pipeline.probe import run_command
from tests.end_to_end.monitor import Monitor, monitoring

ROOT = Path(__file__).parent.parent.parent
INFRA = ROOT / "infra"
MAIN = INFRA / "main.bicep"
MODULES = INFRA / "modules"
FILES = sorted(INFRA.rglob("*.bicep"))
DOCUMENT = (ROOT / "docs" / "deploy.md").read_text()
HOST = json.loads((ROOT / "host.json").read_text())

BUILT_IN_ROLES = {
    "b7e6dc6d-f1e8-4753-8033-0f276bb0955b": "Storage Blob Data Owner",
    "974c5e8b-45b9-4653-ba55-5f855dd0fb88": "Storage Queue Data Contributor",
    "0a9a7e1f-b9d0-4cc4-a60d-0319b160aaa3": "Storage Table Data Contributor",
    "3913510d-42f4-4e42-8a64-420c390055eb": "Monitoring Metrics Publisher",
}
"""https://learn.microsoft.com/azure/role-based-access-control/built-in-roles"""

SOVEREIGN_ONLY = {"ARM_ENDPOINT"}
"""What the app reads, and is told only outside of the public cloud."""
PLATFORM_SETTINGS = {
    "AZURE_CLIENT_ID",
    "AZURE_TOKEN_CREDENTIALS",
    "APPLICATIONINSIGHTS_CONNECTION_STRING",
    "APPLICATIONINSIGHTS_AUTHENTICATION_STRING",
}
"""What azure-identity and the Functions host read."""

DEPRECATED_SETTINGS = {
    "ENABLE_ORYX_BUILD",
    "FUNCTIONS_EXTENSION_VERSION",
    "FUNCTIONS_MAX_HTTP_CONCURRENCY",
    "FUNCTIONS_WORKER_DYNAMIC_CONCURRENCY_ENABLED",
    "FUNCTIONS_WORKER_PROCESS_COUNT",
    "FUNCTIONS_WORKER_RUNTIME",
    "FUNCTIONS_WORKER_RUNTIME_VERSION",
    "SCM_DO_BUILD_DURING_DEPLOYMENT",
    "TZ",
    "WEBSITE_CONTENTAZUREFILECONNECTIONSTRING",
    "WEBSITE_CONTENTSHARE",
    "WEBSITE_MAX_DYNAMIC_APPLICATION_SCALE_OUT",
    "WEBSITE_RUN_FROM_PACKAGE",
    "WEBSITE_TIME_ZONE",
}
DEPRECATED_PROPERTIES = {
    "alwaysOn",
    "containerSize",
    "ftpsState",
    "functionAppScaleLimit",
    "isReserved",
    "linuxFxVersion",
    "preWarmedInstanceCount",
    "use32BitWorkerProcess",
    "windowsFxVersion",
}
"""Both: https://learn.microsoft.com/azure/azure-functions/flex-consumption-plan#considerations"""


@cache
def _parser() -> BicepParser:
    return BicepParser(cache=False)


@cache
def bicep(path: Path) -> dict[str, Any]:
    """A Bicep file, parsed: `parameters`, `variables`, `resources`, `modules`, `outputs` by name."""
    parsed: Any = _parser().parse(text=path.read_text())
    return dict(parsed)


def resource(module: str, name: str) -> dict[str, Any]:
    """The body of a resource in a module."""
    body: dict[str, Any] = bicep(MODULES / f"{module}.bicep")["resources"][name]["config"]
    return body


def keys(value: Any) -> Iterator[str]:
    """Every key of every object in a parsed value."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key.strip("'")
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def app_settings() -> dict[str, Any]:
    """The app settings that are always set."""
    found: dict[str, Any] = bicep(MODULES / "function-app.bicep")["variables"]["settings"]["value"]
    return found


def role_actions(module: str = "reader-role", name: str = "reader") -> list[str]:
    """The actions of a role: the one that the monitor has in the subscriptions it watches, or another."""
    (permission,) = resource(module, name)["properties"]["permissions"]
    assert set(permission) == {"actions"}
    actions: list[str] = permission["actions"]
    return actions


def probe_actions() -> list[str]:
    """The actions of the role that it has besides where nodes are probed."""
    return role_actions("probe-role", "prober")


def deployed_to(scope: Any) -> str:
    """What kind of scope a module is deployed to, by what `scope` of main.bicep says."""
    if scope is None:
        return "subscription"
    if scope == "group":
        return "resourceGroup"
    return {"subscription": "subscription", "resource_group": "resourceGroup"}[scope["function"]["type"]]


def parameter(name: str) -> Any:
    """A parameter of main.bicep with its decorators, as `(default, {decorator: argument})`."""
    found = bicep(MAIN)["parameters"][name]
    return found["default"], {item["type"]: item["argument"] for item in found["decorators"]}


# --- the files among themselves ---------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_file_is_bicep_whose_parts_are_used(path: Path) -> None:
    """It parses; each parameter is described; no parameter, variable or module is left over."""
    parsed = bicep(path)
    text = re.sub(r"//.*", "", path.read_text())
    for name, declared in parsed.get("parameters", {}).items():
        assert [item for item in declared["decorators"] if item["type"] == "description"], name
        assert len(re.findall(rf"\b{name}\b", text)) > 1, f"parameter {name} is not used"
    for name in parsed.get("variables", {}):
        assert len(re.findall(rf"\b{name}\b", text)) > 1, f"variable {name} is not used"
    assert path == MAIN or f"modules/{path.name}'" in MAIN.read_text()


def test_modules_get_what_they_declare_and_give_what_is_taken() -> None:
    """Stands in for the compiler: parameters, outputs and scopes fit together."""
    text = MAIN.read_text()
    modules = bicep(MAIN)["modules"]
    for name, module in modules.items():
        config = module["config"]
        body = config.get("config", config)  # of a loop, or itself
        declared = bicep(INFRA / module["detail"]["path"])
        parameters = declared["parameters"]
        required = {key for key, one in parameters.items() if one["default"] is None}
        assert required <= set(body["params"]) <= set(parameters), name
        assert declared["globals"]["scope"]["value"] == deployed_to(body.get("scope")), name
    for name, output in re.findall(r"\b(\w+)\.outputs\.(\w+)", text):
        assert output in bicep(INFRA / modules[name]["detail"]["path"])["outputs"], f"{name}.{output}"


def test_azd_can_set_every_parameter() -> None:
    """`main.parameters.json` maps each to a variable of its own, which a shell does not have by chance."""
    mapped = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    assert set(mapped) == set(bicep(MAIN)["parameters"])
    for name, entry in mapped.items():
        variable = re.fullmatch(r"\$\{([A-Z_]+)\}", entry["value"])
        assert variable, name
        assert variable[1] in {"AZURE_ENV_NAME", "AZURE_LOCATION"} or (
            variable[1].startswith("TUNNELWATCH_") and variable[1] in DOCUMENT
        ), name


# --- azd --------------------------------------------------------------------------------------


def test_azure_yaml_deploys_the_function_app() -> None:
    """One service, found again by its tag."""
    azure = yaml.safe_load((ROOT / "azure.yaml").read_text())
    assert azure["name"] == "tunnelwatch"
    (name,) = azure["services"]
    service = azure["services"][name]
    assert (service["host"], service["language"], service["project"]) == ("function", "python", ".")
    app = resource("function-app", "app")
    assert app["tags"]["function"]["parameters"]["arg_2"] == {"'azd-service-name'": name}
    assert bicep(MAIN)["variables"]["tags"]["value"] == {"'azd-env-name'": "environmentName"}
    assert {f"SERVICE_{name.upper()}_NAME", f"SERVICE_{name.upper()}_URL"} <= set(bicep(MAIN)["outputs"])


def test_only_what_runs_is_shipped() -> None:
    """`.funcignore` keeps out what is for developers, and nothing that the app imports or needs."""
    ignored = pathspec.GitIgnoreSpec.from_lines((ROOT / ".funcignore").read_text().splitlines())
    for kept_out in ("infra/", "tests/", "local/", "docs/", "bench/", "azure.yaml", ".venv/", "README.md"):
        assert ignored.match_file(kept_out), kept_out
    (layers,) = (
        contract["layers"]
        for contract in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"][
            "contracts"
        ]
        if contract["type"] == "layers"
    )
    packages = [f"{name}/" for name in layers if (ROOT / name).is_dir()]
    for shipped in ("function_app.py", "host.json", "requirements.txt", *packages):
        assert not ignored.match_file(shipped), shipped


# --- the function app -------------------------------------------------------------------------


def test_runtime() -> None:
    """Flex Consumption, with the Python that the tests run on."""
    app = resource("function-app", "app")["properties"]
    version = (ROOT / ".python-version").read_text().strip()
    assert app["functionAppConfig"]["runtime"] == {"name": "python", "version": version}
    assert resource("function-app", "plan")["sku"] == {"name": "FC1", "tier": "FlexConsumption"}


def test_nothing_that_flex_consumption_refuses_is_set() -> None:
    """Neither settings nor properties that other plans take."""
    for path in FILES:
        found = set(keys(bicep(path).get("resources", {}))) | set(keys(bicep(path).get("variables", {})))
        assert not found & DEPRECATED_SETTINGS
        assert not found & DEPRECATED_PROPERTIES


def test_no_passwords_and_no_keys() -> None:
    """Encrypted from TLS 1.2 on; no publishing passwords, account keys or instrumentation keys."""
    app = resource("function-app", "app")["properties"]
    assert app["httpsOnly"] is True
    assert app["siteConfig"] == {"minTlsVersion": "1.2", "scmMinTlsVersion": "1.2"}
    for policy in ("ftp", "scm"):
        password = resource("function-app", f"{policy}Password")
        assert (password["name"], password["properties"]) == (policy, {"allow": False})
    account = resource("storage", "account")["properties"]
    assert account["allowSharedKeyAccess"] is False
    assert account["allowBlobPublicAccess"] is False
    assert account["supportsHttpsTrafficOnly"] is True
    assert account["minimumTlsVersion"] == "TLS1_2"
    assert resource("storage", "packages")["properties"] == {"publicAccess": "None"}
    assert resource("monitoring", "component")["properties"]["DisableLocalAuth"] is True
    text = "".join(path.read_text() for path in FILES)
    assert not re.search(r"listKeys|AccountKey|SharedAccessSignature|InstrumentationKey", text, re.IGNORECASE)


def test_one_identity_for_everything() -> None:
    """The package, the host's storage, Application Insights and the app's own calls use the same one."""
    app = resource("function-app", "app")
    assert app["identity"] == {"type": "UserAssigned", "userAssignedIdentities": {"'${identityId}'": {}}}
    assert app["properties"]["functionAppConfig"]["deployment"]["storage"]["authentication"] == {
        "type": "UserAssignedIdentity",
        "userAssignedIdentityResourceId": "identityId",
    }
    found = app_settings()
    assert found["AzureWebJobsStorage__clientId"] == found["AZURE_CLIENT_ID"] == "identityClientId"
    assert (
        found["APPLICATIONINSIGHTS_AUTHENTICATION_STRING"] == "ClientId=${identityClientId};Authorization=AAD"
    )


# --- app settings -----------------------------------------------------------------------------


class Asked(Mapping[str, str]):
    """An empty environment that remembers what it was asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


def test_app_settings_are_those_that_are_read() -> None:
    """None that the code reads is missing, none is set that nobody reads."""
    asked = Asked()
    settings.load(asked)
    set_here = {name for name in app_settings() if not name.startswith("AzureWebJobsStorage")}
    assert set_here - PLATFORM_SETTINGS == asked.names - SOVEREIGN_ONLY
    assert set_here >= PLATFORM_SETTINGS


def test_only_sovereign_clouds_are_told_where_resource_manager_is() -> None:
    """In the public cloud the app keeps its default."""
    variables = bicep(MODULES / "function-app.bicep")["variables"]
    choice = variables["sovereignSettings"]["value"]["operator"]["operands"]
    assert (choice["condition"], choice["true_value"]) == ("isPublicCloud", {})
    assert set(choice["false_value"]) == SOVEREIGN_ONLY
    with_slash = "https://management.usgovcloudapi.net/"  # as environment().resourceManager has it
    assert settings.load({"ARM_ENDPOINT": with_slash}).arm_endpoint == with_slash.rstrip("/")


def test_defaults_are_those_of_the_code() -> None:
    """An app that is deployed with no parameter set runs as one that is configured with nothing."""
    given = settings.load(
        {
            "SCAN_SCHEDULE": parameter("scanSchedule")[0],
            "SCAN_TIMEOUT_SECONDS": str(parameter("scanTimeoutSeconds")[0]),
            "RETENTION_DAYS": str(parameter("retentionDays")[0]),
            "OTEL_EXPORTER_OTLP_ENDPOINT": parameter("otlpEndpoint")[0],
            "NODE_PROBES": parameter("nodeProbes")[0],
            "NODE_PROBE_SCHEDULE": parameter("nodeProbeSchedule")[0],
            "NODE_PROBES_PER_POOL": str(parameter("nodeProbesPerPool")[0]),
        }
    )
    assert given == settings.load({})


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("scanTimeoutSeconds", "SCAN_TIMEOUT_SECONDS"),
        ("retentionDays", "RETENTION_DAYS"),
        ("nodeProbesPerPool", "NODE_PROBES_PER_POOL"),
    ],
)
def test_bounds_are_within_those_of_the_code(name: str, setting: str) -> None:
    """What Bicep lets through, the app takes."""
    _, decorators = parameter(name)
    for bound in ("min_value", "max_value"):
        settings.load({setting: str(decorators[bound])})


def test_a_scan_is_given_up_before_the_host_ends_the_process() -> None:
    """`functionTimeout` takes down the worker with every scan in it; the app's own limit comes first."""
    hours, minutes, seconds = (int(part) for part in HOST["functionTimeout"].split(":"))
    _, decorators = parameter("scanTimeoutSeconds")
    assert decorators["max_value"] + 30 <= hours * 3600 + minutes * 60 + seconds


def bindings() -> Iterator[Any]:
    """Every binding of the app, loaded afresh: its functions can be listed once."""
    spec = importlib.util.spec_from_file_location("function_app_of_this_test", ROOT / "function_app.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for function in module.app.get_functions():
        yield from function.get_bindings()


def test_connections_and_placeholders_of_bindings_are_set() -> None:
    """Each connection by identity and endpoint, never by a connection string; each `%NAME%`."""
    found = app_settings()
    connections = {binding.connection for binding in bindings() if getattr(binding, "connection", None)}
    assert connections == {"AzureWebJobsStorage"}  # the host's own: blobs for its locks, tables for the app
    for name in connections:
        assert name not in found
        assert found[f"{name}__credential"] == "managedidentity"
        assert {
            f"{name}__{part}" for part in ("blobServiceUri", "queueServiceUri", "tableServiceUri", "clientId")
        } <= (set(found))
    schedules = [binding.schedule for binding in bindings() if getattr(binding, "schedule", None)]
    placeholders = {name for schedule in schedules for name in re.findall("%(.+?)%", schedule)}
    assert placeholders
    assert placeholders <= set(found)


async def test_the_app_opens_its_tables_with_these_settings() -> None:
    """The endpoint as Azure writes it, with a slash at the end, and no key."""
    endpoint = "https://stexample.table.core.windows.net/"
    text = {name: value for name, value in app_settings().items() if isinstance(value, str)}
    text |= {name: "https://stexample.example/" for name in text if name.endswith("ServiceUri")}
    text |= {
        "AzureWebJobsStorage__tableServiceUri": endpoint,
        "SCAN_SCHEDULE": "",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "",
        "TUNNEL": "",
        "DNS_SERVER": "",
        "NODE_PROBES": "",
        "NODE_PROBE_SCHEDULE": "",
        "NODE_PROBES_PER_POOL": "",
    }
    clients = Clients(settings.load(text))
    try:
        service = clients.table_service()
        assert (service.account_name, service.url) == ("stexample", endpoint.rstrip("/"))
    finally:
        await clients.close()


# --- rights -----------------------------------------------------------------------------------


POLLING = "Microsoft.Compute/locations/operations/read"
"""What asking takes whether a run command is through, and what it printed: Azure gives both addresses on this
path, `Location` with `monitor=true` besides (https://github.com/Azure/azure-cli/issues/32286). All actions:
https://learn.microsoft.com/azure/role-based-access-control/permissions/compute."""


def named_actions() -> set[str]:
    """Every Azure action that the pipeline's code names."""
    found = set()
    for path in (ROOT / "pipeline").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and re.fullmatch(r"Microsoft\.\w+(/\w+)+", str(node.value)):
                found.add(str(node.value))
    return {name for name in found if name.rpartition("/")[2] in {"read", "write", "delete", "action"}}


def test_the_role_is_what_the_code_names() -> None:
    """The kinds of the inventory, the interfaces of scale sets, the subscriptions; each once."""
    needed = {kind.action for kind in vars(kinds).values() if isinstance(kind, kinds.Kind)} | {
        inventory.SCALE_SET_INTERFACES,
        inventory.RULE_COLLECTION_GROUPS,
        inventory.ADMIN_RULES,
        inventory.SERVICE_TAGS,
        metrics.ACTION,
        "Microsoft.Resources/subscriptions/read",
    }
    probing = {run_command.SCALE_SET_RUN_COMMAND, run_command.RUN_COMMAND}
    assert named_actions() == needed | probing
    assert role_actions() == sorted(needed)
    assert probe_actions() == sorted(probing | {POLLING})


def test_the_right_to_run_scripts_is_apart_and_given_only_where_it_is_meant() -> None:
    """Neither the role nor its assignment is there unless nodes are probed."""
    main = bicep(MAIN)
    assert parameter("nodeProbes")[0] == "off"
    condition = main["modules"]["probeRole"]["config"]["condition"]["operator"]
    assert condition == {"type": "equals", "operands": {"operand_1": "nodeProbes", "operand_2": "on"}}
    choices = dict(re.findall(r"var (probed\w+) = (.*)", MAIN.read_text()))
    assert choices == {
        "probedResourceGroupIds": "nodeProbes == 'on' ? nodeProbeResourceGroupIds : []",
        "probedSubscriptionIds": (
            "nodeProbes == 'on' && empty(nodeProbeResourceGroupIds) ? nodeProbeSubscriptionIds : []"
        ),
    }
    loops = {
        name: main["modules"][name]["config"]["loop_type"]["detail"]["array_name"]
        for name in ("probeAssignments", "probeGroupAssignments")
    }
    assert loops == {
        "probeAssignments": "probedSubscriptionIds",
        "probeGroupAssignments": "probedResourceGroupIds",
    }
    assert parameter("nodeProbeResourceGroupIds")[0] == []
    assert parameter("nodeProbeSubscriptionIds")[0] == "watchedSubscriptionIds"
    assert not set(probe_actions()) & set(role_actions())
    scopes = resource("probe-role", "prober")["properties"]["assignableScopes"]["function"]
    assert (scopes["type"], scopes["parameters"]["arg_2"]) == ("union", "watchedScopes")


def test_scripts_may_be_run_in_the_named_resource_groups_alone() -> None:
    """The module is deployed to the subscription and the group that each id names."""
    loop = bicep(MAIN)["modules"]["probeGroupAssignments"]["config"]
    scope = loop["config"]["scope"]["function"]
    assert scope["type"] == "resource_group"
    parts = ["", "subscriptions", "the-subscription", "resourceGroups", "MC_the-group"]
    named = {}
    for name, part in scope["parameters"].items():
        index = part["operator"]
        assert index["type"] == "index_accessor"
        split = index["operands"]["operand_1"]["function"]
        assert (split["type"], split["parameters"]) == (
            "split",
            {"delimiter": "/", "input_string": loop["loop_type"]["detail"]["item_name"]},
        )
        named[name] = parts[index["operands"]["operand_2"]]
    assert named == {"subscription_id": "the-subscription", "resource_group_name": "MC_the-group"}


def test_the_probes_role_is_assigned_by_the_name_that_it_is_defined_by() -> None:
    """The assignments cannot take it from the module, which is not there where nodes are not probed."""
    modules = bicep(MAIN)["modules"]
    assert modules["probeRole"]["config"]["config"]["params"]["roleName"] == "probeRoleName"
    defined = resource("probe-role", "prober")["name"]["function"]
    assert (defined["type"], defined["parameters"]["extra_string_1"]) == ("guid", "roleName")
    expected = defined | {"parameters": defined["parameters"] | {"extra_string_1": "probeRoleName"}}
    for name in ("probeAssignments", "probeGroupAssignments"):
        body = modules[name]["config"]["config"]
        assert body["params"]["roleDefinitionName"]["function"] == expected, name
        assert body["dependsOn"] == ["probeRole"], name


def test_the_role_reads_and_nothing_else() -> None:
    """No wildcard, nothing that changes or starts anything, no data."""
    for action in role_actions():
        assert re.fullmatch(r"Microsoft\.[A-Za-z]+(/[A-Za-z]+)+/read", action) or (
            action.removesuffix("/action").lower().endswith(READING_POSTS)
        ), action


def test_a_scan_needs_the_whole_role_and_no_more(tmp_path: Path) -> None:
    """The reads that a scan of every sample cluster makes are the role, exactly."""
    with Monitor(tmp_path, env={"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential"}) as monitor:
        monitor.azure.clear_requests()
        scan = monitor.scan()
        assert scan["status"] == "completed"
        assert scan["total"] > 0
        assert list(monitor.azure.actions()) == role_actions()


@pytest.mark.skipif(bool(unavailable()), reason=f"no simulated nodes here: {unavailable()}")
def test_probes_need_the_whole_role_and_no_more(tmp_path: Path) -> None:
    """What probes ask for besides, of scale sets and of single machines, is the role for it, exactly."""
    env = {"AZURE_TOKEN_CREDENTIALS": "ManagedIdentityCredential", "NODE_PROBES": "on"}
    with monitoring(
        tmp_path, "aks-ml-neu", "aks-web-weu", env=env, options=("--run-command-seconds", "0.05")
    ) as monitor:
        monitor.azure.clear_requests()
        assert monitor.scan(probes=True)["status"] == "completed"
        assert set(monitor.azure.actions()) - set(role_actions()) == set(probe_actions())


def test_the_role_may_be_assigned_where_it_is() -> None:
    """It is defined once, and assigned in each watched subscription."""
    scopes = resource("reader-role", "reader")["properties"]["assignableScopes"]["function"]
    assert (scopes["type"], scopes["parameters"]["arg_2"]) == ("union", "watchedScopes")
    watched = bicep(MODULES / "reader-role.bicep")["variables"]["watchedScopes"]["value"]
    assert watched["loop_type"]["detail"]["array_name"] == "watchedSubscriptionIds"
    assert watched["config"] == "/subscriptions/${id}"
    loop = bicep(MAIN)["modules"]["readerAssignments"]["config"]
    assert loop["loop_type"]["detail"]["array_name"] == "watchedSubscriptionIds"
    assert loop["config"]["scope"] == {
        "function": {
            "type": "subscription",
            "parameters": {"subscription_id": loop["loop_type"]["detail"]["item_name"]},
        }
    }


def test_the_identity_has_these_roles_and_no_others() -> None:
    """Three on the storage account, one on Application Insights, its own where it watches and probes."""
    scopes: dict[str, str] = {}
    for path in FILES:
        variables = bicep(path).get("variables", {})
        deployed = bicep(path)["globals"]["scope"]["value"]
        for one in bicep(path).get("resources", {}).values():
            if one["type"] != "Microsoft.Authorization/roleAssignments":
                continue
            properties = one["config"]["properties"]
            assert properties["principalId"] == "principalId"
            assert properties["principalType"] == "ServicePrincipal"
            role = properties["roleDefinitionId"]["function"]["parameters"]["resource_name_1"]
            guid = variables.get(role, {}).get("value")
            named = BUILT_IN_ROLES[guid] if guid else f"{role} in {path.name}"
            scopes[named] = one["config"].get("scope", deployed)
    assert scopes == {
        "Storage Blob Data Owner": "account",
        "Storage Queue Data Contributor": "account",
        "Storage Table Data Contributor": "account",
        "Monitoring Metrics Publisher": "component",
        "roleDefinitionName in role-assignment.bicep": "subscription",
        "roleDefinitionName in group-role-assignment.bicep": "resourceGroup",
    }
    given = {
        name: module["detail"]["path"].removeprefix("modules/")
        for name, module in bicep(MAIN)["modules"].items()
        if "role-assignment" in module["detail"]["path"]
    }
    assert given == {
        "readerAssignments": "role-assignment.bicep",
        "probeAssignments": "role-assignment.bicep",
        "probeGroupAssignments": "group-role-assignment.bicep",
    }


# --- the manual -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*app_settings(), *SOVEREIGN_ONLY])
def test_every_app_setting_is_in_the_manual(name: str) -> None:
    """In the table of `docs/deploy.md`."""
    assert f"| `{name}` |" in DOCUMENT


def test_defaults_in_the_manual_are_those_of_the_parameters() -> None:
    """In the table of azd variables, for each that has a plain value."""
    mapped = json.loads((INFRA / "main.parameters.json").read_text())["parameters"]
    plain = {name: parameter(name)[0] for name in mapped if isinstance(parameter(name)[0], (str, int))}
    assert "scanSchedule" in plain
    # A default that is another parameter's value has no text of its own.
    plain = {name: default for name, default in plain.items() if default not in mapped}
    for name, default in plain.items():
        shown = f"`{default}`" if default != "" else "none"
        assert f"| `{mapped[name]['value'][2:-1]}` | {shown} |" in DOCUMENT, name


@pytest.mark.parametrize("action", [*role_actions(), *probe_actions()])
def test_every_right_is_in_the_manual(action: str) -> None:
    """With what it is for."""
    assert f"| `{action}` |" in DOCUMENT


@pytest.mark.parametrize(("name", "value"), [*HOST["extensions"]["queues"].items()])
def test_every_queue_setting_is_in_the_manual(name: str, value: object) -> None:
    """With the value that `host.json` has."""
    assert f"| `{name}` | `{value}` |" in DOCUMENT


def test_function_timeout_is_in_the_manual() -> None:
    """With the value that `host.json` has."""
    assert f"| `functionTimeout` | `{HOST['functionTimeout']}` |" in DOCUMENT


def test_functions_that_the_manual_names_are_there() -> None:
    """The function whose key an action group needs."""
    named = set(re.findall(r"--function-name (\w+)", DOCUMENT))
    defined = {
        node.name
        for node in ast.parse((ROOT / "function_app.py").read_text()).body
        if isinstance(node, ast.AsyncFunctionDef)
    }
    assert named
    assert named <= defined
