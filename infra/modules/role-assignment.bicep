// Gives the identity one of its roles in one watched subscription.
targetScope = 'subscription'

@description('Name (a GUID) of the role definition.')
param roleDefinitionName string

@description('Object id of the identity.')
param principalId string

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(subscription().id, principalId, roleDefinitionName)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleDefinitionName)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
