"""The resources that are served now: what the files say, and what was changed since.

Documents are found by their id in lower case, and in the collections that a path can name: a type in a
subscription, in a resource group, under a parent.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping

from local.azure.access import Denial
from local.azure.actions import TYPES, ResourceType
from local.azure.arm import ArmPath, Json, key
from local.azure.fleet import Fleet
from local.azure.metric_files import Series
from local.azure.names import Answer
from local.azure.nodes import Entry, Machine

TENANT = "5f1d2c3b-8a47-4e60-b9d2-3c7e8f9a0b14"
"""The tenant of every subscription whose document does not name another."""


class Overlay[Value]:
    """Values by key: those of the files, and those that were put in their place since."""

    def __init__(self, files: Mapping[str, Value]) -> None:
        self._files = files
        self._changes: dict[str, Value] = {}

    def get(self, key: str) -> Value | None:
        """The value of a key now."""
        return self._changes.get(key, self._files.get(key))

    def put(self, values: Mapping[str, Value]) -> None:
        """Put values in the place of those that there are for their keys, if any."""
        self._changes.update(values)

    def all(self) -> dict[str, Value]:
        """Every value now."""
        return {**self._files, **self._changes}

    def replace(self, files: Mapping[str, Value], *, keep_changes: bool) -> None:
        """Take over files read anew, as `Store.replace` does."""
        self._changes = _standing(self._changes, self._files, files) if keep_changes else {}
        self._files = files


class Store:
    """A fleet, changeable while it is served."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self.admin_rules: Overlay[tuple[Json, ...]] = Overlay(fleet.admin_rules)
        """The security admin rules in force, by the key of the virtual network's id."""
        self.metrics: Overlay[tuple[Series, ...]] = Overlay(fleet.metrics)
        """What Azure Monitor has counted, by the key of a resource's id."""
        self.names: Overlay[Answer] = Overlay(fleet.names)
        """What host names resolve to, by `names.key`."""
        self.nodes: Overlay[Entry] = Overlay(fleet.nodes)
        """What nodes are like inside, by the key of a machine's, scale set's or virtual network's id."""
        self.version = 0
        """A number that is another one whenever a document may be."""
        self._changes: dict[str, Json | None] = {}  # None: taken away
        self._rebuild()

    @property
    def denials(self) -> tuple[Denial, ...]:
        """What the identity may not do."""
        return self._fleet.denials

    @property
    def service_tags(self) -> Json | None:
        """Azure's list of service tags; None where the fleet has none."""
        return self._fleet.service_tags

    def counts(self) -> Json:
        """How much there is of each kind, for `/_sim/health`."""
        return {
            "resources": len(self._documents),
            "metricsFiles": self._fleet.metrics_files,
            "metrics": len(self.metrics.all()),
            "nodesFiles": self._fleet.nodes_files,
            "nodesEntries": len(self.nodes.all()),
            "serviceTags": len((self._fleet.service_tags or {"values": ()})["values"]),
            "adminRules": sum(map(len, self.admin_rules.all().values())),
            "names": len(self.names.all()),
        }

    def replace(self, fleet: Fleet, *, keep_changes: bool) -> None:
        """Take over a fleet read anew.

        With `keep_changes`, what was put or deleted at run time stands, unless the files now say something
        new about that very resource.
        """
        before, after = self._fleet.resources, fleet.resources
        self._changes = _standing(self._changes, before, after) if keep_changes else {}
        self.admin_rules.replace(fleet.admin_rules, keep_changes=keep_changes)
        self.metrics.replace(fleet.metrics, keep_changes=keep_changes)
        self.names.replace(fleet.names, keep_changes=keep_changes)
        self.nodes.replace(fleet.nodes, keep_changes=keep_changes)
        self._fleet = fleet
        self._rebuild()

    def put(self, document: Json) -> None:
        """Add a resource, or replace the one with its id."""
        identifier = key(document["id"])
        self.version += 1
        self._changes[identifier] = document
        if identifier in self._documents:  # it keeps its place in lists
            self._documents[identifier] = document
        else:
            self._add(identifier, document)

    def delete(self, identifier: str) -> bool:
        """Take a resource away, and what is under it; False if there is none."""
        wanted = key(identifier)
        gone = [found for found in self._documents if found == wanted or found.startswith(wanted + "/")]
        self._changes.update(dict.fromkeys(gone))
        if gone:
            self._rebuild()
        return wanted in gone

    def document(self, identifier: str) -> Json | None:
        """The stored document with this id, in any case."""
        return self._documents.get(key(identifier))

    def every(self, kind: str) -> Iterator[Json]:
        """Every stored document of a type, its name in lower case."""
        for subscription in self._subscriptions:
            for identifier in self._collections.get(f"/subscriptions/{subscription}/{kind}", ()):
                yield self._documents[identifier]

    def machine(self, identifier: str) -> Machine | None:
        """What is said of a machine (its key), by itself or by its scale set; None if nothing is."""
        entry = self.nodes.get(identifier) or self.nodes.get(identifier.rpartition("/virtualmachines/")[0])
        return entry if isinstance(entry, Machine) else None

    def subscriptions(self) -> list[Json]:
        """Every subscription: those with a document, and those in which something lies."""
        return [self.subscription(identifier) for identifier in self._subscriptions]

    def subscription(self, identifier: str) -> Json:
        """A subscription's document; one is made up if the fleet holds none."""
        wanted = identifier.lower()
        return self._documents.get(f"/subscriptions/{wanted}") or {
            "id": f"/subscriptions/{wanted}",
            "authorizationSource": "RoleBased",
            "managedByTenants": [],
            "subscriptionId": wanted,
            "tenantId": TENANT,
            "displayName": f"Subscription {wanted[:8]}",
            "state": "Enabled",
            "subscriptionPolicies": {
                "locationPlacementId": "Public_2014-09-01",
                "quotaId": "PayAsYouGo_2014-09-01",
                "spendingLimit": "Off",
            },
        }

    def has_subscription(self, identifier: str) -> bool:
        """Whether there is such a subscription."""
        return identifier.lower() in self._subscriptions

    def has_group(self, subscription: str, group: str) -> bool:
        """Whether there is anything in such a resource group."""
        return (subscription.lower(), group.lower()) in self._groups

    def one(self, path: ArmPath, identifier: str, kind: ResourceType) -> Json | None:
        """One resource: a stored document, or a part of its parent's."""
        found = self.document(identifier)
        if found is None and kind.inside and path.parent:
            wanted = path.names[-1].lower()
            parts = self._parts(path.parent, kind)
            found = next((part for part in parts if part["name"].lower() == wanted), None)
        return found

    def collection(self, path: ArmPath, address: str, kind: ResourceType) -> list[Json]:
        """Every resource of a collection."""
        if path.resource_group is None:
            wanted = f"/subscriptions/{path.subscription}/{kind.name}".lower()
        else:
            wanted = key(address)
        found = [self._documents[identifier] for identifier in self._collections.get(wanted, ())]
        if kind.inside and path.parent:
            known = {document["name"].lower() for document in found}
            found += [part for part in self._parts(path.parent, kind) if part["name"].lower() not in known]
        return found

    def _parts(self, parent: str, kind: ResourceType) -> list[Json]:
        """The children that the parent's own document holds."""
        document = self.document(parent)
        parts: Iterable[Json] = ((document or {}).get("properties") or {}).get(kind.inside) or ()
        if kind.inside != "agentPoolProfiles" or document is None:
            return [part for part in parts if isinstance(part.get("name"), str)]
        # A cluster's own list of its pools is flat; a pool as a resource has `properties`.
        return [
            {
                "id": f"{document['id']}/agentPools/{part['name']}",
                "name": part["name"],
                "type": "Microsoft.ContainerService/managedClusters/agentPools",
                "properties": {name: value for name, value in part.items() if name != "name"},
            }
            for part in parts
        ]

    def _rebuild(self) -> None:
        self.version += 1
        self._documents: dict[str, Json] = {}
        self._collections: dict[str, dict[str, None]] = defaultdict(dict)
        self._subscriptions: dict[str, None] = {}
        self._groups: set[tuple[str, str]] = set()
        for identifier, document in (self._fleet.resources | self._changes).items():
            if document is not None:
                self._add(identifier, document)

    def _add(self, identifier: str, document: Json) -> None:
        path = ArmPath.parse(identifier)
        self._documents[identifier] = document
        self._subscriptions[path.subscription] = None
        if path.resource_group is None or not path.types:
            return
        self._groups.add((path.subscription, path.resource_group))
        self._collections[identifier.rpartition("/")[0]][identifier] = None
        self._collections[f"/subscriptions/{path.subscription}/{path.type}"][identifier] = None
        for kind in TYPES.values():
            if kind.gathers and kind.gathers.lower() == path.type:
                top = identifier.rsplit("/" + path.types[-2] + "/", maxsplit=1)[0]
                self._collections[f"{top}/{path.types[-1]}"][identifier] = None


def _standing[Value, Said](
    changes: Mapping[str, Value], before: Mapping[str, Said], after: Mapping[str, Said]
) -> dict[str, Value]:
    """The changes to what the files say as before."""
    return {key: change for key, change in changes.items() if before.get(key) == after.get(key)}
