"""What recommended commands would do in Azure: taken apart as a shell does, and applied to a snapshot.

Azure's own refusals are assertions here: a name or a priority number that is taken, a rule that mixes
address families, an object that does not exist.
"""

import shlex
from collections.abc import Callable, Iterable
from typing import Any

from msgspec import Struct, structs

from facts import resource_id
from facts.filters import (
    AdminRules,
    Firewall,
    FirewallRule,
    NetworkSecurityGroup,
    RouteTable,
    SecurityRule,
)
from facts.snapshot import Snapshot
from tests.snapshots import CLUSTER, firewall_rule, rule

Options = dict[str, list[str]]

_WHERE = {"--subscription", "--resource-group"}
_ADMIN_RULE = "network manager security-admin-config rule-collection rule update"
_ADMIN_COMMIT = "network manager post-commit"
_GROUP_CREATE = "network firewall policy rule-collection-group create"
_COLLECTION_ADD = "network firewall policy rule-collection-group collection add-filter-collection"


def parse(command: str) -> tuple[str, Options]:
    """A command as a shell would take it apart: `network nsg rule create`, and its options with values."""
    program, *words = shlex.split(command)
    assert program == "az"
    path = []
    while not words[0].startswith("--"):
        path.append(words.pop(0))
    options: Options = {}
    for word in words:
        if word.startswith("--"):
            assert word not in options
            options[word] = []
        else:
            options[list(options)[-1]].append(word)
    assert all(options.values())
    assert set(options) >= _WHERE
    return " ".join(path), options


def verb(command: str) -> str:
    """`create`, `delete`, `update`."""
    return parse(command)[0].rpartition(" ")[2]


def mended(what: Snapshot, commands: Iterable[str]) -> Snapshot:
    """The cluster after some commands, each on what it names and on nothing else."""
    drafts: dict[str, list[tuple[str, str]]] = {}
    for command in commands:
        path, options = parse(command)
        if path == _ADMIN_RULE:
            # What is changed in a configuration is in force only once that is deployed to the region.
            configuration, change = _draft(options)
            drafts.setdefault(configuration, []).append(change)
        elif path == _ADMIN_COMMIT:
            what = _committed(what, options, drafts)
        elif path.startswith("network nsg rule "):
            what = _on(
                what, NetworkSecurityGroup, _target(options, "networkSecurityGroups", "nsg"), path, options
            )
        elif path.startswith("network route-table route "):
            what = _on(what, RouteTable, _target(options, "routeTables", "route-table"), path, options)
        elif path in {_GROUP_CREATE, _COLLECTION_ADD}:
            what = _on(what, Firewall, _target(options, "firewallPolicies", "policy"), path, options)
        else:
            assert path in {
                "network firewall network-rule create",
                "network firewall application-rule create",
            }
            what = _on(what, Firewall, _target(options, "azureFirewalls", "firewall"), path, options)
    assert not any(drafts.values())
    return what


def _target(options: Options, kind: str, option: str) -> str:
    """The key of what a command is about; its place is taken out of the options."""
    [subscription] = options.pop("--subscription")
    [group] = options.pop("--resource-group")
    [name] = options.pop(f"--{option}-name")
    return resource_id.key(
        f"/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Network/{kind}/{name}"
    )


def _on[T: (NetworkSecurityGroup, RouteTable, Firewall)](
    what: Snapshot, kind: type[T], target: str, path: str, options: Options
) -> Snapshot:
    """Change every copy of one object in a snapshot."""
    changes: dict[type, Callable[[Any, str, Options], Any]] = {
        NetworkSecurityGroup: _group,
        RouteTable: _table,
        Firewall: _firewall,
    }
    met: list[Any] = []

    def change(part: T) -> T:
        own = part.policy if isinstance(part, Firewall) and " policy " in path else part.id
        if resource_id.key(own) != target:
            return part
        met.append(part)
        after: T = changes[kind](part, path, {name: list(given) for name, given in options.items()})
        return after

    after = _rewritten(what, kind, change)
    assert met, f"there is no {target}"
    return after


def _rewritten[P](part: P, kind: type, change: Callable[[Any], Any]) -> P:
    """A snapshot or a part of it, with everything of some kind changed wherever it stands."""
    found: Any = part
    if isinstance(part, kind):
        found = change(part)
    elif isinstance(part, Struct):
        fields = {name: _rewritten(getattr(part, name), kind, change) for name in part.__struct_fields__}
        found = structs.replace(part, **fields)
    elif isinstance(part, tuple):
        found = tuple(_rewritten(one, kind, change) for one in part)
    elif isinstance(part, dict):
        found = {name: _rewritten(one, kind, change) for name, one in part.items()}
    return found  # type: ignore[no-any-return]


def _group(group: NetworkSecurityGroup, path: str, options: Options) -> NetworkSecurityGroup:
    """A security group after a command; a number that is taken is refused."""
    [name] = options.pop("--name")
    known = {one.name.lower(): one for one in group.rules}
    others = tuple(one for one in group.rules if one.name.lower() != name.lower())
    if path.endswith(" delete"):
        assert not options
        assert name.lower() in known
        return structs.replace(group, rules=others)
    if path.endswith(" update"):
        assert list(options) == ["--priority"]
        changed = structs.replace(known[name.lower()], priority=int(options["--priority"][0]))
    else:
        assert path == "network nsg rule create"
        assert name.lower() not in known
        changed = _made(f"{group.id}/securityRules/{name}", name, options)
    assert 100 <= changed.priority <= 4096
    assert (changed.direction.lower(), changed.priority) not in {
        (one.direction.lower(), one.priority) for one in others
    }
    return structs.replace(group, rules=(*others, changed))


def _made(rule_id: str, name: str, options: Options) -> SecurityRule:
    made = rule(
        name,
        int(options.pop("--priority")[0]),
        options.pop("--access")[0],
        direction=options.pop("--direction")[0],
        protocol=options.pop("--protocol")[0],
        sources=" ".join(options.pop("--source-address-prefixes")),
        source_ports=" ".join(options.pop("--source-port-ranges")),
        destinations=" ".join(options.pop("--destination-address-prefixes")),
        ports=" ".join(options.pop("--destination-port-ranges")),
    )
    assert not options
    # ResourceCannotContainAddressPrefixesFromDifferentAddressFamilies
    # (https://github.com/hashicorp/terraform-provider-azurerm/issues/12534)
    assert len({":" in prefix for prefix in (*made.sources, *made.destinations)}) == 1
    return structs.replace(made, id=rule_id)


def _table(table: RouteTable, path: str, options: Options) -> RouteTable:
    """A route table after a command."""
    [name] = options.pop("--name")
    assert [one for one in table.routes if one.name.lower() == name.lower()]
    if path.endswith(" delete"):
        assert not options
        kept = (one for one in table.routes if one.name.lower() != name.lower())
        return structs.replace(table, routes=tuple(kept))
    assert path == "network route-table route update"
    assert list(options) == ["--next-hop-type"]
    [hop] = options["--next-hop-type"]
    return structs.replace(
        table,
        routes=tuple(
            structs.replace(one, hop=hop, addresses=()) if one.name.lower() == name.lower() else one
            for one in table.routes
        ),
    )


def _firewall(firewall: Firewall, path: str, options: Options) -> Firewall:
    """A firewall after a command; priorities and names that are taken are refused."""
    if path == _GROUP_CREATE:
        [name], [priority] = options.pop("--name"), options.pop("--priority")
        assert not options
        assert name.lower() not in {one.lower() for one in firewall.groups}
        assert int(priority) not in firewall.groups.values()
        assert 100 <= int(priority) <= 65_000
        return structs.replace(firewall, groups={**firewall.groups, name: int(priority)})
    if path == _COLLECTION_ADD:
        [group] = options.pop("--rule-collection-group-name")
        assert group in firewall.groups
        [kind] = options.pop("--rule-type")
        network = kind == "NetworkRule"
        assert network or kind == "ApplicationRule"
        [collection], [name] = options.pop("--name"), options.pop("--rule-name")
        [priority] = options.pop("--collection-priority")
        protocols = options.pop("--ip-protocols" if network else "--protocols")
    else:
        network, group = path == "network firewall network-rule create", ""
        [collection], [name] = options.pop("--collection-name"), options.pop("--name")
        [priority] = options.pop("--priority")
        protocols = options.pop("--protocols")
    assert 100 <= int(priority) <= 65_000
    peers = [one for one in firewall.rules if (one.group, _is_network(one)) == (group, network)]
    assert collection.lower() not in {one.collection.lower() for one in peers}
    assert int(priority) not in {one.priority for one in peers}
    made = firewall_rule(
        name,
        "network" if network else "application",
        options.pop("--action")[0],
        policy=firewall.policy.rsplit("/", 1)[-1],
        group=group,
        collection=collection,
        priority=int(priority),
        protocols=" ".join(protocols).replace("=", ":"),
        sources=" ".join(options.pop("--source-addresses")),
        destinations=" ".join(options.pop("--destination-addresses")) if network else "",
        ports=" ".join(options.pop("--destination-ports")) if network else "",
        fqdns="" if network else " ".join(options.pop("--target-fqdns")),
    )
    assert not options

    def place(one: FirewallRule) -> tuple[bool, bool, int, int]:
        own = one.policy == firewall.policy
        return (
            not _is_network(one),
            own,
            firewall.groups.get(one.group, 0) if own else 0,
            one.priority if own else 0,
        )

    return structs.replace(firewall, rules=tuple(sorted((*firewall.rules, made), key=place)))


def _is_network(one: FirewallRule) -> bool:
    return one.kind == "network"


def _draft(options: Options) -> tuple[str, tuple[str, str]]:
    """The configuration that a command changes, and which rule gets which access."""
    configuration = (
        f"{_target(options, 'networkManagers', 'network-manager')}"
        f"/securityadminconfigurations/{options.pop('--configuration-name')[0].lower()}"
    )
    collection, name = options.pop("--rule-collection-name")[0], options.pop("--rule-name")[0]
    [access] = options.pop("--access")
    assert not options
    return configuration, (f"{configuration}/rulecollections/{collection}/rules/{name}".lower(), access)


def _committed(what: Snapshot, options: Options, drafts: dict[str, list[tuple[str, str]]]) -> Snapshot:
    """A snapshot once a configuration is deployed to the cluster's region."""
    manager = _target(options, "networkManagers", "network-manager")
    assert options.pop("--commit-type") == ["SecurityAdmin"]
    assert options.pop("--target-locations") == [CLUSTER.location]
    [configuration] = map(resource_id.key, options.pop("--configuration-ids"))
    assert not options
    assert configuration.startswith(f"{manager}/securityadminconfigurations/")
    accesses = dict(drafts.pop(configuration))
    met: set[str] = set()

    def change(rules: AdminRules) -> AdminRules:
        met.update(resource_id.key(one.id) for one in rules.rules)
        changed = (
            structs.replace(one, access=accesses.get(resource_id.key(one.id), one.access))
            for one in rules.rules
        )
        return structs.replace(rules, rules=tuple(changed))

    after = _rewritten(what, AdminRules, change)
    assert met >= set(accesses)
    return after
