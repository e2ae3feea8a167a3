// Gives the identity one of its roles in one resource group, where a whole subscription would be too much.

@description('Name (a GUID) of the role definition.')
param roleDefinitionName string

@description('Object id of the identity.')
param principalId string

resource assignment 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(resourceGroup().id, principalId, roleDefinitionName)
  properties: {
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', roleDefinitionName)
    principalId: principalId
    principalType: 'ServicePrincipal'
  }
}
