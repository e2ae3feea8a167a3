// What Tunnelwatch may do in the subscriptions that it watches: read these kinds of resources, nothing else.
// A test compares the list with the reads that a scan makes.
targetScope = 'subscription'

@description('Display name of the role. It must be the only one of that name in the tenant.')
param roleName string

@description('Ids of the subscriptions in which the role is assigned.')
param watchedSubscriptionIds string[]

var watchedScopes = [for id in watchedSubscriptionIds: '/subscriptions/${id}']

resource reader 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, roleName)
  properties: {
    roleName: roleName
    description: 'Reads AKS clusters, their nodes and their networks, for Tunnelwatch.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          'Microsoft.Compute/virtualMachineScaleSets/networkInterfaces/read'
          'Microsoft.Compute/virtualMachineScaleSets/read'
          'Microsoft.Compute/virtualMachines/read'
          'Microsoft.ContainerService/managedClusters/read'
          // In the whole subscription: Azure Monitor's batch interface asks for no less.
          'Microsoft.Insights/metrics/read'
          'Microsoft.Network/azureFirewalls/read'
          'Microsoft.Network/firewallPolicies/read'
          'Microsoft.Network/firewallPolicies/ruleCollectionGroups/read'
          'Microsoft.Network/ipGroups/read'
          'Microsoft.Network/loadBalancers/read'
          'Microsoft.Network/locations/serviceTags/read'
          'Microsoft.Network/natGateways/read'
          'Microsoft.Network/networkInterfaces/read'
          'Microsoft.Network/networkSecurityGroups/read'
          'Microsoft.Network/publicIPAddresses/read'
          'Microsoft.Network/publicIPPrefixes/read'
          'Microsoft.Network/routeTables/read'
          // A POST that only reads: the security admin rules in force on a network.
          'Microsoft.Network/virtualNetworks/listNetworkManagerEffectiveSecurityAdminRules/action'
          'Microsoft.Network/virtualNetworks/read'
          'Microsoft.Resources/subscriptions/read'
        ]
      }
    ]
    // A role is one object of the tenant; the subscription that it is written through has to be among its scopes.
    assignableScopes: union([subscription().id], watchedScopes)
  }
}

output name string = reader.name
output roleName string = roleName
