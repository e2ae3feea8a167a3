// What Tunnelwatch may do on nodes where they are probed: run a script through Run Command, as root, and ask
// whether it is through. Apart from the role that reads, so that neither is given without being meant.
targetScope = 'subscription'

@description('Display name of the role. It must be the only one of that name in the tenant.')
param roleName string

@description('Ids of the subscriptions in which the role may be assigned.')
param watchedSubscriptionIds string[]

var watchedScopes = [for id in watchedSubscriptionIds: '/subscriptions/${id}']

resource prober 'Microsoft.Authorization/roleDefinitions@2022-04-01' = {
  name: guid(subscription().id, roleName)
  properties: {
    roleName: roleName
    description: 'Runs the probe of Tunnelwatch on AKS nodes.'
    type: 'CustomRole'
    permissions: [
      {
        actions: [
          // Whether a run command is through, and what it printed: one path for both. There is no
          // operationResults/read of compute, and Azure refuses a role with an action that there is not.
          'Microsoft.Compute/locations/operations/read'
          'Microsoft.Compute/virtualMachineScaleSets/virtualMachines/runCommand/action'
          'Microsoft.Compute/virtualMachines/runCommand/action'
        ]
      }
    ]
    assignableScopes: union([subscription().id], watchedScopes)
  }
}
