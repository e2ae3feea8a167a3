"""`python -m packets firewall`: what an Azure Firewall does to some traffic."""

import argparse
import json
from collections.abc import Mapping, Sequence
from typing import Any

from facts.filters import Firewall
from facts.resource_id import key
from packets.addresses import parse_port_range, to_prefixes
from packets.answers import Answer
from packets.commands import named, parsed, prefixes, typed
from packets.documents import Document, properties, text
from packets.documents.firewall import (
    RuleCollectionGroup,
    faults,
    in_order,
    read_firewall,
    read_rule_collection_group,
)
from packets.firewall import answer
from packets.tags import Tags

_PASTED = "standard input"
_LIST = "az network firewall policy rule-collection-group list"
_OF_A_FIREWALL = frozenset(
    {
        "networkRuleCollections",
        "applicationRuleCollections",
        "natRuleCollections",
        "ipConfigurations",
        "firewallPolicy",
        "virtualHub",
    }
)


def add(parser: argparse.ArgumentParser) -> None:
    """Say what can be asked."""
    add = parser.add_argument
    add("--protocol", default="tcp", type=str.lower, choices=("tcp", "udp"))
    add("--port", required=True, type=typed(parse_port_range), help="destination port, or a range 1-1024")
    addresses = typed(prefixes)
    add("--source", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add("--destination", required=True, type=addresses, metavar="CIDR[,CIDR]")
    add(
        "--fqdn",
        default="",
        metavar="NAME",
        help="the name that the traffic is for; without it what hangs on names is unknown",
    )
    add(
        "--no-tls",
        action="store_true",
        help="the traffic is neither TLS nor HTTP nor SQL, so that no application rule takes it",
    )
    add("--tag", action="append", default=[], type=typed(named), metavar="NAME=CIDR[,CIDR]")
    add("--ip-group", action="append", default=[], type=typed(named), metavar="ID=CIDR[,CIDR]")
    add(
        "--parent",
        action="append",
        default=[],
        metavar="FILE",
        help="rule collection groups of the parent policy; given several times, the topmost parent first",
    )
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace, text: str) -> Answer:
    """Answer; raises `ValueError` naming what in the documents cannot be used."""
    firewall = _firewall(_listed(parsed(text), _PASTED), asked.parent)
    for fault in faults(firewall.rules):
        raise ValueError(fault)
    given = {key(name): to_prefixes(addresses) for name, addresses in asked.ip_group}
    named_groups = {
        key(group) for rule in firewall.rules for group in (*rule.source_groups, *rule.destination_groups)
    }
    groups = {
        group: found
        for group in named_groups
        if (found := given.get(group, given.get(group.rsplit("/", 1)[-1]))) is not None
    }
    return answer(
        Firewall(id=firewall.id, name=firewall.name, rules=firewall.rules, ip_groups=groups),
        asked.protocol,
        Tags.of_network(None, dict(asked.tag)),
        sources=asked.source,
        destinations=asked.destination,
        ports=asked.port,
        fqdn=asked.fqdn,
        tls=not asked.no_tls,
    )


def _firewall(documents: Sequence[Document], parents: Sequence[str]) -> Firewall:
    """The firewall that was pasted: one with classic rules, or what a policy makes of any."""
    if len(documents) == 1 and _is_firewall(documents[0]):
        model = read_firewall(documents[0])
        if model.policy_id:
            raise ValueError(
                f'the firewall obeys policy "{model.policy_id.rsplit("/", 1)[-1]}", which holds its rules: '
                f"paste the policy's rule collection groups, as {_LIST} prints them"
            )
        if parents:
            raise ValueError(
                "--parent goes with the rule collection groups of a policy, not with classic rules"
            )
        return Firewall(id=model.id, name=model.name, rules=model.rules)
    policies = [_policy(_listed(_file(path), f"--parent {path}"), f"--parent {path}") for path in parents]
    policies.append(_policy(documents, _PASTED))
    return Firewall(id="", name="", rules=in_order(policies))


def _policy(documents: Sequence[Document], where: str) -> list[RuleCollectionGroup]:
    """The rule collection groups of one policy."""
    groups = []
    for position, document in enumerate(documents):
        place = _place(where, position, documents)
        if not _is_group(document):
            raise ValueError(
                f"{place} is neither an Azure Firewall by itself nor a rule collection group: it "
                f"has no ruleCollections (paste what {_LIST} prints)"
            )
        try:
            groups.append(read_rule_collection_group(document))
        except ValueError as error:
            raise ValueError(f"{place}: {error}") from error
    policies = {key(group.policy_id): group.policy_id for group in groups if group.policy_id}
    if len(policies) > 1:
        names = ", ".join(policy.rsplit("/", 1)[-1] for policy in policies.values())
        raise ValueError(
            f"{where} holds groups of several policies ({names}): give those of parents by --parent"
        )
    return groups


def _is_firewall(document: Document) -> bool:
    kind = text(document, "type").lower()
    return kind == "microsoft.network/azurefirewalls" or not _OF_A_FIREWALL.isdisjoint(properties(document))


def _is_group(document: Document) -> bool:
    kind = text(document, "type").lower()
    return kind.endswith("/rulecollectiongroups") or "ruleCollections" in properties(document)


def _file(path: str) -> Any:
    try:
        # The packages in the middle do without pathlib.
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return json.load(file)
    except ValueError as error:
        raise ValueError(f"--parent {path} is no JSON: {error}") from error
    except RecursionError as error:
        raise ValueError(f"--parent {path} is nested too deeply") from error


def _listed(found: Any, where: str) -> list[Document]:
    """The resources of a document: an object, a list, or a page of a list that is the only one."""
    if isinstance(found, dict) and isinstance(found.get("value"), list):
        if found.get("nextLink"):
            raise ValueError(f"{where} is one page of several (it has a nextLink), and not the whole list")
        found = found["value"]
    documents = found if isinstance(found, list) else [found]
    for position, document in enumerate(documents):
        if not isinstance(document, Mapping):
            place = _place(where, position, documents)
            raise ValueError(f"{place} is no JSON object with ruleCollections or networkRuleCollections")
    return documents


def _place(where: str, position: int, documents: Sequence[Any]) -> str:
    return f"{where}[{position}]" if len(documents) > 1 else where
