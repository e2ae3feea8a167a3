// The identity that the function app runs as, at storage, at Application Insights and at the watched clusters.

@description('Name of the identity.')
param name string

@description('Azure region.')
param location string

@description('Tags of the identity.')
param tags object

resource identity 'Microsoft.ManagedIdentity/userAssignedIdentities@2023-01-31' = {
  name: name
  location: location
  tags: tags
}

output id string = identity.id
output clientId string = identity.properties.clientId
output principalId string = identity.properties.principalId
