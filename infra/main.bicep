// Everything that Tunnelwatch needs in Azure: a function app with its storage and its logs, an identity,
// and the right of that identity to read the watched subscriptions, and to probe nodes where that is on.
//
// Plain resources rather than Azure Verified Modules: what is granted and what is switched off stands here
// to be read and tested, and a deployment restores nothing from a registry.
targetScope = 'subscription'

@description('Name of the azd environment. Names the resource group and, with the location, makes all other names unique.')
@minLength(1)
@maxLength(64)
param environmentName string

@description('Azure region of all resources. It must offer the Flex Consumption plan.')
@minLength(1)
@metadata({
  azd: {
    type: 'location'
  }
})
param location string

@description('Ids of the subscriptions to watch, all of one Microsoft Entra tenant. The one deployed to, unless set.')
@minLength(1)
param watchedSubscriptionIds string[] = [
  subscription().subscriptionId
]

@description('When to scan, as an NCRONTAB expression of six fields, in UTC.')
@minLength(11)
param scanSchedule string = '0 */15 * * * *'

@description('Seconds that one cluster may take before its message goes back to the queue. Stays below functionTimeout in host.json.')
@minValue(10)
@maxValue(540)
param scanTimeoutSeconds int = 240

@description('Days for which resolved findings and past scans are kept.')
@minValue(1)
@maxValue(3650)
param retentionDays int = 90

@description('Memory of one instance, in MB.')
@allowed([
  512
  2048
  4096
])
param instanceMemoryMB int = 512

@description('Most instances that the app may grow to. The plan takes no maximum under 40.')
@minValue(40)
@maxValue(1000)
param maximumInstanceCount int = 40

@description('Days for which logs are kept.')
@minValue(30)
@maxValue(730)
param logRetentionDays int = 30

@description('Where to send OpenTelemetry traces and metrics (OTLP over HTTP). Nowhere, unless set.')
param otlpEndpoint string = ''

@description('What carries the tunnel of clusters whose tag tunnelwatch:tunnel does not say.')
@allowed([
  'konnectivity'
  'tunnel-front'
  'aks-link'
])
param tunnel string = 'konnectivity'

@description('Address of the DNS server that is asked for the names of API servers. The one of the platform, unless set.')
param dnsServer string = ''

@description('Whether a script may be run on nodes, as root, to see what only they can tell.')
@allowed([
  'off'
  'on'
])
param nodeProbes string = 'off'

@description('When nodes are probed, as an NCRONTAB expression of six fields, in UTC.')
@minLength(11)
param nodeProbeSchedule string = '0 5 * * * *'

@description('How many nodes of a pool are probed in one scan.')
@minValue(1)
@maxValue(50)
param nodeProbesPerPool int = 3

@description('Ids of the node resource groups, /subscriptions/<id>/resourceGroups/<name>, on whose machines alone scripts may be run, where nodes are probed.')
param nodeProbeResourceGroupIds string[] = []

@description('Ids of the subscriptions in which scripts may be run on every machine, where nodes are probed and no resource groups are named. Empty, to assign the role yourself.')
param nodeProbeSubscriptionIds string[] = watchedSubscriptionIds

var probedResourceGroupIds = nodeProbes == 'on' ? nodeProbeResourceGroupIds : []
var probedSubscriptionIds = nodeProbes == 'on' && empty(nodeProbeResourceGroupIds) ? nodeProbeSubscriptionIds : []
var probeRoleName = 'Tunnelwatch Node Probe (${environmentName}, ${resourceToken})'
var resourceToken = uniqueString(subscription().id, environmentName, location)
var tags = {
  'azd-env-name': environmentName
}

resource group 'Microsoft.Resources/resourceGroups@2024-03-01' = {
  name: 'rg-${environmentName}'
  location: location
  tags: tags
}

module identity 'modules/identity.bicep' = {
  name: 'identity'
  scope: group
  params: {
    name: 'id-${resourceToken}'
    location: location
    tags: tags
  }
}

module storage 'modules/storage.bicep' = {
  name: 'storage'
  scope: group
  params: {
    name: 'st${resourceToken}'
    location: location
    tags: tags
    principalId: identity.outputs.principalId
  }
}

module monitoring 'modules/monitoring.bicep' = {
  name: 'monitoring'
  scope: group
  params: {
    workspaceName: 'log-${resourceToken}'
    componentName: 'appi-${resourceToken}'
    location: location
    tags: tags
    retentionDays: logRetentionDays
    principalId: identity.outputs.principalId
  }
}

module readerRole 'modules/reader-role.bicep' = {
  name: 'tunnelwatch-role-${resourceToken}'
  params: {
    roleName: 'Tunnelwatch Reader (${environmentName}, ${resourceToken})'
    watchedSubscriptionIds: watchedSubscriptionIds
  }
}

module readerAssignments 'modules/role-assignment.bicep' = [for id in watchedSubscriptionIds: {
  name: 'tunnelwatch-reader-${resourceToken}'
  scope: subscription(id)
  params: {
    roleDefinitionName: readerRole.outputs.name
    principalId: identity.outputs.principalId
  }
}]

module probeRole 'modules/probe-role.bicep' = if (nodeProbes == 'on') {
  name: 'tunnelwatch-probe-role-${resourceToken}'
  params: {
    roleName: probeRoleName
    watchedSubscriptionIds: watchedSubscriptionIds
  }
}

module probeGroupAssignments 'modules/group-role-assignment.bicep' = [for id in probedResourceGroupIds: {
  name: 'tunnelwatch-probe-${resourceToken}'
  scope: resourceGroup(split(id, '/')[2], split(id, '/')[4])
  params: {
    roleDefinitionName: guid(subscription().id, probeRoleName)
    principalId: identity.outputs.principalId
  }
  dependsOn: [
    probeRole
  ]
}]

module probeAssignments 'modules/role-assignment.bicep' = [for id in probedSubscriptionIds: {
  name: 'tunnelwatch-probe-${resourceToken}'
  scope: subscription(id)
  params: {
    roleDefinitionName: guid(subscription().id, probeRoleName)
    principalId: identity.outputs.principalId
  }
  dependsOn: [
    probeRole
  ]
}]

module functionApp 'modules/function-app.bicep' = {
  name: 'function-app'
  scope: group
  params: {
    name: 'func-${resourceToken}'
    planName: 'plan-${resourceToken}'
    location: location
    tags: tags
    identityId: identity.outputs.id
    identityClientId: identity.outputs.clientId
    blobEndpoint: storage.outputs.blobEndpoint
    queueEndpoint: storage.outputs.queueEndpoint
    tableEndpoint: storage.outputs.tableEndpoint
    packageContainerUrl: storage.outputs.packageContainerUrl
    applicationInsightsConnectionString: monitoring.outputs.connectionString
    instanceMemoryMB: instanceMemoryMB
    maximumInstanceCount: maximumInstanceCount
    watchedSubscriptionIds: watchedSubscriptionIds
    scanSchedule: scanSchedule
    scanTimeoutSeconds: scanTimeoutSeconds
    retentionDays: retentionDays
    otlpEndpoint: otlpEndpoint
    tunnel: tunnel
    dnsServer: dnsServer
    nodeProbes: nodeProbes
    nodeProbeSchedule: nodeProbeSchedule
    nodeProbesPerPool: nodeProbesPerPool
  }
}

output AZURE_LOCATION string = location
output AZURE_TENANT_ID string = tenant().tenantId
output AZURE_RESOURCE_GROUP string = group.name
output SERVICE_MONITOR_NAME string = functionApp.outputs.name
output SERVICE_MONITOR_URL string = functionApp.outputs.url
output MONITOR_IDENTITY_PRINCIPAL_ID string = identity.outputs.principalId
output READER_ROLE_NAME string = readerRole.outputs.roleName
// Also where nodes are not probed: it takes the name to take the role away again.
output NODE_PROBE_ROLE_NAME string = probeRoleName
