"""An AKS cluster described in a few words, and the raw ARM JSON that Azure would return for it.

`documents(cluster)` gives what `az rest` shows of the cluster, its node resource group and its network:
names, properties and letter case as Azure has them (resource groups in upper case in scale set ids, in lower
case words in cluster ids). Everything that is random in Azure is derived from names here, so the same
description always gives the same JSON.
"""

import hashlib
import ipaddress
from collections.abc import Iterator
from typing import Any

from local.fleets.admin import admin_rules
from local.fleets.casing import scramble
from local.fleets.clusters import Cluster, Pool, Route, Subnet, digits
from local.fleets.hub import hub_network
from local.fleets.names import prefix, private_name, public_name
from local.fleets.outbound import Member, Outbound
from local.fleets.parts import (
    TENANT,
    Json,
    etag,
    group_scope,
    guid,
    peering,
    ref,
    resource,
    route,
    security_group,
    subnet_part,
)

KUBERNETES = "1.33.5"
LINUX_IMAGE = "AKSUbuntu-2204gen2containerd-202609.03.1"
WINDOWS_IMAGE = "AKSWindows-2022-containerd-20348.4052.260910"
_EPOCH = "2026-09-14T08:21:37.1234567+00:00"


def documents(cluster: Cluster) -> dict[str, Any]:
    """The cluster's files by name: a resource, arrays and list responses, as exports mix them."""
    maker = _Maker(cluster)
    nodes = list(maker.instances())
    files: dict[str, Any] = {
        "cluster.json": maker.managed_cluster(),
        "scale-sets.json": {"value": [maker.scale_set(pool) for pool in maker.scale_set_pools]},
        "instances.json": {"value": nodes},
        "network.json": list(maker.network()),
        "security-groups.json": list(maker.security_groups()),
    }
    if not maker.scale_set_pools:
        del files["scale-sets.json"]
    if used := maker.out.metrics(maker.members()):
        files["use.metrics.json"] = used
    if cluster.admin:
        files["in-force.adminrules.json"] = admin_rules(maker.vnet, cluster.admin)
    if cluster.scrambled:
        files = {name: scramble(content, name) for name, content in files.items()}
    if inside := maker.inside():
        files["inside.nodes.json"] = inside
    return files


class _Maker:
    """Makes the documents of one cluster."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.number = cluster.number
        subscription_id = cluster.subscription
        self.nodes_scope = group_scope(subscription_id, cluster.node_group)
        self.id = cluster.id
        self.net = f"{self.nodes_scope}/providers/Microsoft.Network"
        self.node_nsg = f"{self.net}/networkSecurityGroups/aks-agentpool-{self.number}-nsg"
        if cluster.network:
            scope = group_scope(subscription_id, cluster.network.group)
            self.byo_net = f"{scope}/providers/Microsoft.Network"
            self.vnet = f"{self.byo_net}/virtualNetworks/{cluster.network.name}"
        else:
            self.byo_net = self.net
            self.vnet = f"{self.net}/virtualNetworks/aks-vnet-{self.number}"
        if cluster.network and cluster.network.routes:
            self.routes: str | None = f"{self.byo_net}/routeTables/rt-{cluster.name}"
        elif cluster.plugin == "kubenet":
            self.routes = f"{self.net}/routeTables/aks-agentpool-{self.number}-routetable"
        else:
            self.routes = None
        self.out = Outbound(cluster, net=self.net, byo_net=self.byo_net, network=self.vnet)
        self.scale_set_pools = [pool for pool in cluster.pools if pool.kind == "VirtualMachineScaleSets"]
        self.prefixes = self._prefixes()
        self.addresses = self._addresses()
        self.created = {"aks-managed-cluster-name": cluster.name, "aks-managed-cluster-rg": cluster.group}

    # What the rest is built from

    def _prefixes(self) -> dict[str, tuple[str, ...]]:
        """Address prefixes by subnet."""
        if self.cluster.network:
            return {subnet.name: subnet.prefixes for subnet in self.cluster.network.subnets}
        if self.cluster.dual_stack:
            return {"aks-subnet": ("10.224.0.0/16", "fd94:2a7c:51e8:a0::/64")}
        return {"aks-subnet": ("10.224.0.0/16",)}

    def _addresses(self) -> dict[tuple[str, int], list[str]]:
        """IPv4 addresses by pool and node: the node's own, then those of its pods where they have any."""
        hosts = {name: ipaddress.ip_network(prefixes[0]) for name, prefixes in self.prefixes.items()}
        used = dict.fromkeys(hosts, 4)  # Azure keeps the first four addresses of a subnet
        each = 1 + self._pod_addresses
        found: dict[tuple[str, int], list[str]] = {}
        for pool in self.cluster.pools:
            for index in range(pool.count):
                start = used[pool.subnet]
                used[pool.subnet] += each
                found[pool.name, index] = [str(hosts[pool.subnet][start + step]) for step in range(each)]
        return found

    @property
    def _pod_addresses(self) -> int:
        apart = any(pool.pod_subnet for pool in self.cluster.pools)
        return 10 if self.cluster.plugin == "azure" and not apart else 0

    @property
    def _max_pods(self) -> int:
        if self.cluster.plugin == "azure":
            return self._pod_addresses or 250
        return {"kubenet": 110, "overlay": 250}[self.cluster.plugin]

    def _nic(self, pool: Pool, index: int) -> str:
        """The id of a node's network interface."""
        name = self._vm_name(pool)
        if pool.kind == "VirtualMachines":
            return f"{self.net}/networkInterfaces/{name}{index + 1}-nic"
        return (
            f"{self.nodes_scope}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}"
            f"/virtualMachines/{index}/networkInterfaces/{name}"
        )

    def members(self) -> list[Member]:
        """Every node, with its network interface and addresses."""
        if self.cluster.stopped:
            return []
        return [
            Member(pool, index, self._nic(pool, index), (self.addresses[pool.name, index][0], *six))
            for pool in self.cluster.pools
            for index in range(pool.count)
            for six in [[self._six(pool, index)] if self.cluster.dual_stack else []]
        ]

    def _six(self, pool: Pool, index: int) -> str:
        """A node's IPv6 address."""
        return str(ipaddress.ip_network(self.prefixes[pool.subnet][1])[4 + index])

    def _vm_name(self, pool: Pool) -> str:
        if pool.os == "Windows":  # a Windows computer name has fifteen letters at most
            return f"aks{pool.name}"
        suffix = "vms" if pool.kind == "VirtualMachines" else "vmss"
        return f"aks-{pool.name}-{digits(f'{self.id}/{pool.name}')}-{suffix}"

    # Microsoft.ContainerService

    def managed_cluster(self) -> Json:
        """The managed cluster."""
        cluster = self.cluster
        properties: Json = {
            "provisioningState": "Succeeded",
            "powerState": {"code": "Stopped" if cluster.stopped else "Running"},
            "kubernetesVersion": KUBERNETES.rpartition(".")[0],
            "currentKubernetesVersion": KUBERNETES,
            "dnsPrefix": f"{cluster.name}-dns",
            "fqdn": public_name(cluster),
            "azurePortalFQDN": f"{prefix(cluster)}.portal.hcp.{cluster.location}.azmk8s.io",
            "agentPoolProfiles": [self._pool_profile(pool) for pool in cluster.pools],
            "linuxProfile": {
                "adminUsername": "azureuser",
                "ssh": {"publicKeys": [{"keyData": _ssh_key(self.id)}]},
            },
            "servicePrincipalProfile": {"clientId": "msi"},
            "addonProfiles": {
                "azureKeyvaultSecretsProvider": {"enabled": False, "config": None},
                "azurepolicy": {"enabled": False, "config": None},
            },
            "nodeResourceGroup": cluster.node_group,
            "nodeResourceGroupProfile": {
                "restrictionLevel": "ReadOnly" if cluster.automatic else "Unrestricted"
            },
            "enableRBAC": True,
            "supportPlan": "KubernetesOfficial",
            "networkProfile": self._network_profile(),
            "aadProfile": {
                "managed": True,
                "adminGroupObjectIDs": None,
                "enableAzureRBAC": True,
                "tenantID": TENANT,
            },
            "apiServerAccessProfile": self._api_server(),
            "maxAgentPools": 100,
            "identityProfile": {
                "kubeletidentity": {
                    "resourceId": self._kubelet_identity,
                    "clientId": guid(self.id + "/kubelet/client"),
                    "objectId": guid(self.id + "/kubelet/object"),
                }
            },
            "autoUpgradeProfile": {"upgradeChannel": "patch", "nodeOSUpgradeChannel": "NodeImage"},
            "disableLocalAccounts": cluster.automatic,
            "securityProfile": {
                "imageCleaner": {"enabled": True, "intervalHours": 168},
                "workloadIdentity": {"enabled": True},
            },
            "storageProfile": {
                "diskCSIDriver": {"enabled": True},
                "fileCSIDriver": {"enabled": True},
                "snapshotController": {"enabled": True},
            },
            "oidcIssuerProfile": {
                "enabled": True,
                "issuerURL": f"https://{cluster.location}.oic.prod-aks.azure.com/{TENANT}/{guid(self.id)}/",
            },
            "workloadAutoScalerProfile": {},
            "azureMonitorProfile": {"metrics": {"enabled": True, "kubeStateMetrics": {}}},
            "metricsProfile": {"costAnalysis": {"enabled": False}},
            "resourceUID": hashlib.sha256(self.id.encode()).hexdigest()[:24],
            "nodeProvisioningProfile": {
                "mode": "Auto" if cluster.automatic else "Manual",
                "defaultNodePools": "Auto",
            },
            "bootstrapProfile": self._bootstrap(),
        }
        if cluster.private:
            properties["privateFQDN"] = private_name(cluster)
            properties["privateLinkResources"] = [
                {
                    "id": f"{self.id}/privateLinkResources/management",
                    "name": "management",
                    "type": "Microsoft.ContainerService/managedClusters/privateLinkResources",
                    "groupId": "management",
                    "requiredMembers": ["management"],
                }
            ]
        if any(pool.os == "Windows" for pool in cluster.pools):
            properties["windowsProfile"] = {"adminUsername": "azureuser", "enableCSIProxy": True}
        return {
            "id": self.id,
            "location": cluster.location,
            "name": cluster.name,
            "type": "Microsoft.ContainerService/ManagedClusters",
            "tags": cluster.tags,
            "eTag": guid("etag:" + self.id),
            "kind": "Base",
            "sku": {"name": "Automatic" if cluster.automatic else "Base", "tier": "Standard"},
            "identity": {
                "type": "SystemAssigned",
                "principalId": guid(self.id + "/principal"),
                "tenantId": TENANT,
            },
            "properties": properties,
        }

    def _bootstrap(self) -> Json:
        """Where nodes get their images from: a cluster without a way out has a registry of its own."""
        if self.cluster.outbound != "none":
            return {"artifactSource": "Direct"}
        return {
            "artifactSource": "Cache",
            "containerRegistryId": f"{self.nodes_scope}/providers/Microsoft.ContainerRegistry"
            f"/registries/bootstrap{self.number}",
        }

    @property
    def _kubelet_identity(self) -> str:
        return (
            f"/subscriptions/{self.cluster.subscription}/resourcegroups/{self.cluster.node_group}"
            f"/providers/Microsoft.ManagedIdentity/userAssignedIdentities/{self.cluster.name}-agentpool"
        )

    def _pool_profile(self, pool: Pool) -> Json:
        windows = pool.os == "Windows"
        profile: Json = {
            "name": pool.name,
            "count": pool.count,
            "vmSize": pool.size,
            "osDiskSizeGB": 128,
            "osDiskType": "Ephemeral",
            "kubeletDiskType": "OS",
            "maxPods": self._max_pods,
            "type": pool.kind,
            "availabilityZones": ["1", "2", "3"],
            "enableAutoScaling": pool.autoscaling,
            **({"minCount": pool.count, "maxCount": pool.most or pool.count + 7} if pool.autoscaling else {}),
            "scaleDownMode": "Delete",
            "provisioningState": "Succeeded",
            "powerState": {"code": "Stopped" if self.cluster.stopped else "Running"},
            "orchestratorVersion": KUBERNETES.rpartition(".")[0],
            "currentOrchestratorVersion": KUBERNETES,
            "enableNodePublicIP": pool.public_addresses,
            "nodeLabels": {},
            "mode": pool.mode,
            "osType": pool.os,
            "osSKU": "Windows2022" if windows else "Ubuntu",
            "nodeImageVersion": WINDOWS_IMAGE if windows else LINUX_IMAGE,
            "upgradeSettings": {"maxSurge": pool.surge, "maxUnavailable": "0"},
            "enableFIPS": False,
            "enableEncryptionAtHost": False,
            "enableUltraSSD": False,
            "networkProfile": self._pool_network(pool),
            "securityProfile": {"enableVTPM": False, "enableSecureBoot": False, "sshAccess": "LocalUser"},
            "eTag": guid(f"etag:{self.id}/{pool.name}"),
        }
        if self.cluster.network:
            profile["vnetSubnetID"] = f"{self.vnet}/subnets/{pool.subnet}"
        if pool.pod_subnet:
            profile["podSubnetID"] = f"{self.vnet}/subnets/{pool.pod_subnet}"
        if pool.kind == "VirtualMachines":  # Linux only, sizes by profile, no zones
            for name in ("availabilityZones", "minCount", "maxCount", "enableAutoScaling", "vmSize", "count"):
                profile.pop(name, None)
            sizes = [{"size": pool.size, "count": pool.count}]
            profile["virtualMachinesProfile"] = {"scale": {"manual": sizes}}
            profile["virtualMachineNodesStatus"] = sizes
        return profile

    def _security_groups(self, pool: Pool) -> list[str]:
        """The application security groups that the nodes of a pool join."""
        return [f"{self.byo_net}/applicationSecurityGroups/{name}" for name in pool.groups]

    def _pool_network(self, pool: Pool) -> Json:
        groups = self._security_groups(pool)
        return {"applicationSecurityGroups": groups} if groups else {}

    def _network_profile(self) -> Json:
        cluster = self.cluster
        overlay = cluster.plugin == "overlay"
        profile: Json = {
            "networkPlugin": "kubenet" if cluster.plugin == "kubenet" else "azure",
            "networkPolicy": {"overlay": "cilium", "azure": "azure", "kubenet": "none"}[cluster.plugin],
            "networkDataplane": "cilium" if overlay else "azure",
            "loadBalancerSku": "standard",
            "serviceCidr": "10.2.0.0/16",
            "dnsServiceIP": "10.2.0.10",
            "serviceCidrs": ["10.2.0.0/16"],
            "outboundType": cluster.outbound,
            "ipFamilies": ["IPv4"],
        }
        if overlay:
            profile["networkPluginMode"] = "overlay"
        if cluster.plugin != "azure":
            profile["podCidr"] = "10.244.0.0/16"
            profile["podCidrs"] = ["10.244.0.0/16"]
        if cluster.dual_stack:
            profile["ipFamilies"] = ["IPv4", "IPv6"]
            profile["podCidrs"] = ["10.244.0.0/16", "fd12:3456:789a::/64"]
            profile["serviceCidrs"] = ["10.2.0.0/16", "fd12:3456:789a:1::/108"]
        return profile | self.out.profile()

    def _api_server(self) -> Json:
        cluster = self.cluster
        if cluster.private:
            return {
                "enablePrivateCluster": True,
                "enablePrivateClusterPublicFQDN": cluster.public_name,
                "privateDNSZone": "system",
            }
        if cluster.api_subnet:
            return {
                "enablePrivateCluster": False,
                "enableVnetIntegration": True,
                "subnetId": f"{self.vnet}/subnets/{cluster.api_subnet}",
            }
        return {"enablePrivateCluster": False}

    # Microsoft.Compute

    def scale_set(self, pool: Pool) -> Json:
        """The scale set of a pool."""
        name = self._vm_name(pool)
        group = self.cluster.node_group.upper()  # so Compute writes it in lists
        identifier = (
            f"{group_scope(self.cluster.subscription, group)}"
            f"/providers/Microsoft.Compute/virtualMachineScaleSets/{name}"
        )
        return {
            "name": name,
            "id": identifier,
            "type": "Microsoft.Compute/virtualMachineScaleSets",
            "location": self.cluster.location,
            "tags": self._pool_tags(pool),
            "etag": f'"{int(self.number) % 90 + 10}"',
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {self._kubelet_identity: {}}},
            "sku": {
                "name": pool.size,
                "tier": "Standard",
                "capacity": 0 if self.cluster.stopped else pool.count,
            },
            "zones": ["1", "2", "3"],
            "properties": {
                "singlePlacementGroup": False,
                "orchestrationMode": "Uniform",
                "upgradePolicy": {"mode": "Manual"},
                "virtualMachineProfile": {
                    "osProfile": self._os_profile(pool) | {"computerNamePrefix": _prefix(name, pool)},
                    "storageProfile": self._storage(pool),
                    "networkProfile": {"networkInterfaceConfigurations": [self._nic_configuration(pool)]},
                    "extensionProfile": {
                        "extensions": [
                            {
                                "name": "vmssCSE",
                                "properties": {
                                    "autoUpgradeMinorVersion": True,
                                    "publisher": "Microsoft.Azure.Extensions",
                                    "type": "CustomScript",
                                    "typeHandlerVersion": "2.0",
                                    "settings": {},
                                },
                            }
                        ],
                        "extensionsTimeBudget": "PT16M",
                    },
                    "timeCreated": _EPOCH,
                },
                "provisioningState": "Succeeded",
                "overprovision": False,
                "doNotRunExtensionsOnOverprovisionedVMs": False,
                "uniqueId": guid(identifier),
                "platformFaultDomainCount": 1,
                "timeCreated": _EPOCH,
            },
        }

    def instances(self) -> Iterator[Json]:
        """Every node and its network interface."""
        if self.cluster.stopped:
            return
        for pool in self.cluster.pools:
            for index in range(pool.count):
                if pool.kind == "VirtualMachines":
                    yield from self._machine(pool, index)
                else:
                    yield from self._scale_set_instance(pool, index)

    def _scale_set_instance(self, pool: Pool, index: int) -> Iterator[Json]:
        name = self._vm_name(pool)
        scale_set = f"{self.nodes_scope}/providers/Microsoft.Compute/virtualMachineScaleSets/{name}"
        machine = f"{scale_set}/virtualMachines/{index}"
        nic = self._nic(pool, index)
        yield {
            "name": f"{name}_{index}",
            "id": machine,
            "type": "Microsoft.Compute/virtualMachineScaleSets/virtualMachines",
            "location": self.cluster.location,
            "tags": self._pool_tags(pool),
            "instanceId": str(index),
            "sku": {"name": pool.size, "tier": "Standard"},
            "zones": [str(index % 3 + 1)],
            "etag": '"1"',
            "properties": {
                "latestModelApplied": True,
                "modelDefinitionApplied": "VirtualMachineScaleSet",
                "networkProfileConfiguration": {
                    "networkInterfaceConfigurations": [self._nic_configuration(pool)]
                },
                "vmId": guid(machine),
                "hardwareProfile": {},
                "storageProfile": self._storage(pool),
                "osProfile": self._os_profile(pool)
                | {"computerName": _prefix(name, pool) + _base36(index), "requireGuestProvisionSignal": True},
                "networkProfile": {"networkInterfaces": [ref(nic)]},
                "provisioningState": "Succeeded",
                "timeCreated": _EPOCH,
            },
        }
        yield {
            "name": name,
            "id": nic,
            "etag": etag(nic),
            "properties": self._nic_properties(pool, index, nic) | {"virtualMachine": ref(machine)},
        }

    def _machine(self, pool: Pool, index: int) -> Iterator[Json]:
        name = f"{self._vm_name(pool)}{index + 1}"
        machine = f"{self.nodes_scope}/providers/Microsoft.Compute/virtualMachines/{name}"
        nic = self._nic(pool, index)
        yield {
            "name": name,
            "id": machine,
            "type": "Microsoft.Compute/virtualMachines",
            "location": self.cluster.location,
            "tags": self._pool_tags(pool),
            "etag": '"1"',
            "identity": {"type": "UserAssigned", "userAssignedIdentities": {self._kubelet_identity: {}}},
            "properties": {
                "hardwareProfile": {"vmSize": pool.size},
                "provisioningState": "Succeeded",
                "vmId": guid(machine),
                "storageProfile": self._storage(pool),
                "osProfile": self._os_profile(pool)
                | {"computerName": name, "requireGuestProvisionSignal": True},
                "networkProfile": {
                    "networkInterfaces": [
                        ref(nic) | {"properties": {"primary": True, "deleteOption": "Delete"}}
                    ]
                },
                "timeCreated": _EPOCH,
            },
        }
        yield resource(
            nic,
            "Microsoft.Network/networkInterfaces",
            self._nic_properties(pool, index, nic) | {"virtualMachine": ref(machine)},
            location=self.cluster.location,
            tags=self._pool_tags(pool),
        )

    def inside(self) -> dict[str, Any]:
        """What nodes are like inside, and what their network drops."""
        found: dict[str, Any] = {}
        drops = [
            {"from": drop.source, "to": to}
            for drop in self.cluster.drops
            for to in self._destinations(drop.destination)
        ]
        if drops:
            found[self.vnet] = {"drop": drops}
        pools = {pool.name: pool for pool in self.cluster.pools}
        for one in self.cluster.inside:
            scale_set = f"{self.nodes_scope}/providers/Microsoft.Compute/virtualMachineScaleSets"
            name = self._vm_name(pools[one.pool])
            if one.nodes is None:
                found[f"{scale_set}/{name}"] = dict(one.content)
            for index in one.nodes or ():
                found[f"{scale_set}/{name}/virtualMachines/{index}"] = dict(one.content)
        return found

    def _destinations(self, named: str) -> list[str]:
        """A CIDR as it is, or the addresses of a pool's nodes."""
        if "/" in named:
            return [named]
        return [f"{own[0]}/32" for (pool, _), own in self.addresses.items() if pool == named]

    def _pool_tags(self, pool: Pool) -> dict[str, str]:
        return {
            "aks-managed-consolidated-additional-properties": guid(f"{self.id}/{pool.name}/properties"),
            "aks-managed-coordination": "true",
            "aks-managed-createOperationID": guid(f"{self.id}/{pool.name}/operation"),
            "aks-managed-creationSource": f"vmssclient-{self._vm_name(pool)}",
            "aks-managed-enable-imds-restriction": "false",
            "aks-managed-kubeletIdentityClientID": guid(self.id + "/kubelet/client"),
            "aks-managed-networkisolated-outbound-type": "none" if self.cluster.outbound == "none" else "",
            "aks-managed-orchestrator": f"Kubernetes:{KUBERNETES}",
            "aks-managed-poolName": pool.name,
            "aks-managed-resourceNameSuffix": self.number,
            "aks-managed-ssh-access": "LocalUser",
            "compute.aks.billing": "linux" if pool.os == "Linux" else "windows",
        } | self.cluster.tags

    def _os_profile(self, pool: Pool) -> Json:
        profile: Json = {"adminUsername": "azureuser", "secrets": [], "allowExtensionOperations": True}
        if pool.os == "Windows":
            profile["windowsConfiguration"] = {
                "provisionVMAgent": True,
                "enableAutomaticUpdates": False,
                "enableVMAgentPlatformUpdates": False,
            }
        else:
            key = {"path": "/home/azureuser/.ssh/authorized_keys", "keyData": _ssh_key(self.id)}
            profile["linuxConfiguration"] = {
                "disablePasswordAuthentication": True,
                "ssh": {"publicKeys": [key]},
                "provisionVMAgent": True,
                "enableVMAgentPlatformUpdates": False,
            }
        return profile

    def _storage(self, pool: Pool) -> Json:
        gallery, image = (
            ("AKSWindows", "windows-2022-containerd/versions/20348.4052.260910")
            if pool.os == "Windows"
            else ("AKSUbuntu", "2204gen2containerd/versions/202609.03.1")
        )
        return {
            "osDisk": {
                "osType": pool.os,
                "diffDiskSettings": {"option": "Local", "placement": "ResourceDisk"},
                "createOption": "FromImage",
                "caching": "ReadOnly",
                "managedDisk": {"storageAccountType": "Standard_LRS"},
                "diskSizeGB": 128,
            },
            "imageReference": {
                "id": f"/subscriptions/{guid('galleries')}/resourceGroups/{gallery}"
                f"/providers/Microsoft.Compute/galleries/{gallery}/images/{image}"
            },
        }

    # Microsoft.Network

    def _nic_configuration(self, pool: Pool) -> Json:
        subnet = ref(f"{self.vnet}/subnets/{pool.subnet}")
        configurations: list[Json] = []
        for index in range(1 + self._pod_addresses):
            properties: Json = {
                "primary": index == 0,
                "subnet": subnet,
                "privateIPAddressVersion": "IPv4",
            }
            if index == 0 and (pools := self.out.backend_pools()):
                properties["loadBalancerBackendAddressPools"] = pools
            if index == 0 and pool.public_addresses:
                properties["publicIPAddressConfiguration"] = {
                    "name": "pub1",
                    "properties": {
                        "idleTimeoutInMinutes": 4,
                        "ipTags": [],
                        "publicIPAddressVersion": "IPv4",
                    },
                }
            if groups := self._security_groups(pool):
                properties["applicationSecurityGroups"] = [ref(group) for group in groups]
            configurations.append({"name": f"ipconfig{index + 1}", "properties": properties})
        if self.cluster.dual_stack:
            properties = {"primary": False, "subnet": subnet, "privateIPAddressVersion": "IPv6"}
            if pools := self.out.backend_pools(6):
                properties["loadBalancerBackendAddressPools"] = pools
            configurations.append({"name": "ipconfigv6", "properties": properties})
        properties = {
            "primary": True,
            "disableTcpStateTracking": False,
            "enableAcceleratedNetworking": True,
            "enableIPForwarding": True,
            "dnsSettings": {"dnsServers": []},
            "ipConfigurations": configurations,
        }
        if self.cluster.network:  # in a network of its own making AKS hangs the NSG on the subnet
            properties["networkSecurityGroup"] = ref(self.node_nsg)
        return {"name": self._vm_name(pool), "properties": properties}

    def _nic_properties(self, pool: Pool, index: int, nic: str) -> Json:
        subnet = ref(f"{self.vnet}/subnets/{pool.subnet}")
        addresses = [(address, "IPv4") for address in self.addresses[pool.name, index]]
        if self.cluster.dual_stack:
            addresses.append((self._six(pool, index), "IPv6"))
        configurations = []
        for step, (address, version) in enumerate(addresses):
            name = f"ipconfig{step + 1}" if version == "IPv4" else "ipconfigv6"
            properties = {
                "provisioningState": "Succeeded",
                "privateIPAddress": address,
                "privateIPAllocationMethod": "Dynamic",
                "subnet": subnet,
                "primary": step == 0,
                "privateIPAddressVersion": version,
            }
            behind = {"ipconfig1": 4, "ipconfigv6": 6}.get(name)
            if behind and (pools := self.out.backend_pools(behind)):
                properties["loadBalancerBackendAddressPools"] = pools
            if groups := self._security_groups(pool):
                properties["applicationSecurityGroups"] = [ref(group) for group in groups]
            configurations.append(
                {
                    "name": name,
                    "id": f"{nic}/ipConfigurations/{name}",
                    "etag": etag(nic),
                    "properties": properties,
                }
            )
        found: Json = {
            "provisioningState": "Succeeded",
            "resourceGuid": guid(nic),
            "ipConfigurations": configurations,
            "dnsSettings": {
                "dnsServers": [],
                "appliedDnsServers": [],
                "internalDomainNameSuffix": f"{guid(self.vnet)[:8]}.ax.internal.cloudapp.net",
            },
            "macAddress": "-".join(["00", "0D", "3A", *(guid(nic)[at : at + 2].upper() for at in (0, 2, 4))]),
            "enableAcceleratedNetworking": True,
            "vnetEncryptionSupported": False,
            "enableIPForwarding": True,
            "primary": True,
            "hostedWorkloads": [],
            "tapConfigurations": [],
            "nicType": "Standard",
            "allowPort25Out": True,
            "auxiliaryMode": "None",
        }
        if self.cluster.network:
            found["networkSecurityGroup"] = ref(self.node_nsg)
        return found

    def network(self) -> Iterator[Json]:
        """Virtual network, load balancer or NAT gateway, public addresses, routes."""
        yield self._virtual_network()
        yield from self.out.documents(self.members(), list(self.prefixes))
        if self.routes:
            yield self._route_table(self.routes)
        for group in dict.fromkeys(
            group for pool in self.cluster.pools for group in self._security_groups(pool)
        ):
            yield resource(
                group,
                "Microsoft.Network/applicationSecurityGroups",
                {"provisioningState": "Succeeded", "resourceGuid": guid(group)},
                location=self.cluster.location,
            )

    def _virtual_network(self) -> Json:
        network = self.cluster.network
        properties: Json = {
            "provisioningState": "Succeeded",
            "resourceGuid": guid(self.vnet),
            "addressSpace": {"addressPrefixes": self._space()},
            "encryption": {"enabled": False, "enforcement": "AllowUnencrypted"},
            "privateEndpointVNetPolicies": "Disabled",
            "subnets": [self._subnet_of(name) for name in self.prefixes],
            "virtualNetworkPeerings": [],
            "enableDdosProtection": False,
        }
        if network and network.hub:
            properties["dhcpOptions"] = {"dnsServers": [network.hub.firewall]}
            properties["virtualNetworkPeerings"] = [
                peering(self.vnet, "to-hub", hub_network(network.hub), network.hub.prefix)
            ]
        tags = {} if network else self.created
        return resource(
            self.vnet,
            "Microsoft.Network/virtualNetworks",
            properties,
            location=self.cluster.location,
            tags=tags,
        )

    def _space(self) -> list[str]:
        if self.cluster.network:
            return list(self.cluster.network.prefixes)
        return ["10.224.0.0/12"] + (["fd94:2a7c:51e8::/48"] if self.cluster.dual_stack else [])

    def _subnet_of(self, name: str) -> Json:
        group: str | None = self.node_nsg
        delegation: str | None = None
        if self.cluster.network:
            subnet = next(item for item in self.cluster.network.subnets if item.name == name)
            group = self._subnet_group(subnet)
            delegation = subnet.delegation
        used = []
        for member in self.members():
            if member.pool.subnet == name:
                # Microsoft.Network writes these ids with a scale set's name in upper case
                carrier = self._vm_name(member.pool)
                written = member.nic.replace(carrier, carrier.upper())
                used.append(ref(f"{written}/ipConfigurations/IPCONFIG1"))
        return subnet_part(
            self.vnet,
            name,
            self.prefixes[name],
            group=group,
            routes=self.routes if name in self._routed() else None,
            nat=self.out.gateway(name),
            delegation=delegation,
            used=used,
        )

    def _routed(self) -> list[str]:
        """The subnets that the route table hangs on: those with nodes."""
        return [name for name in self.prefixes if any(pool.subnet == name for pool in self.cluster.pools)]

    def _subnet_group(self, subnet: Subnet) -> str | None:
        if subnet.rules is None:
            return None
        return (
            f"{self.byo_net}/networkSecurityGroups/nsg-{self.cluster.name.removeprefix('aks-')}-{subnet.name}"
        )

    def _route_table(self, identifier: str) -> Json:
        network = self.cluster.network
        routes = [route(identifier, one) for one in network.routes] if network else []
        if self.cluster.plugin == "kubenet":  # the pods of each node, by way of the node
            node = 0
            for pool in self.cluster.pools:
                for index in range(0 if self.cluster.stopped else pool.count):
                    name = f"{self._vm_name(pool)}{_base36(index)}____1024400{node}024"
                    address = self.addresses[pool.name, index][0]
                    routes.append(
                        route(identifier, Route(name=name, prefix=f"10.244.{node}.0/24", address=address))
                    )
                    node += 1
        return resource(
            identifier,
            "Microsoft.Network/routeTables",
            {
                "provisioningState": "Succeeded",
                "resourceGuid": guid(identifier),
                "disableBgpRoutePropagation": False,
                "routes": routes,
                "subnets": [ref(f"{self.vnet}/subnets/{name}") for name in self._routed()],
            },
            location=self.cluster.location,
            tags=self.created if self.cluster.plugin == "kubenet" else {},
        )

    def security_groups(self) -> Iterator[Json]:
        """The NSG that AKS keeps, and those of the owner's subnets."""
        interfaces = [ref(member.nic) for member in self.members() if self.cluster.network]
        subnets = (
            [] if self.cluster.network else [ref(f"{self.vnet}/subnets/{name}") for name in self.prefixes]
        )
        yield security_group(
            self.node_nsg,
            self.cluster.node_rules,
            location=self.cluster.location,
            tags=self.created,
            interfaces=interfaces,
            subnets=subnets,
        )
        for subnet in self.cluster.network.subnets if self.cluster.network else ():
            if (identifier := self._subnet_group(subnet)) and subnet.rules is not None:
                yield security_group(
                    identifier,
                    subnet.rules,
                    location=self.cluster.location,
                    tags={},
                    interfaces=[],
                    subnets=[ref(f"{self.vnet}/subnets/{subnet.name}")],
                )


def _ssh_key(seed: str) -> str:
    return f"ssh-rsa {hashlib.sha256(seed.encode()).hexdigest()} not-a-key"


def _prefix(name: str, pool: Pool) -> str:
    return name if pool.os == "Linux" else name[:9]


def _base36(number: int) -> str:
    """How a scale set ends the computer name of an instance: six base-36 digits."""
    found = ""
    for _ in range(6):
        number, digit = divmod(number, 36)
        found = "0123456789abcdefghijklmnopqrstuvwxyz"[digit] + found
    return found
