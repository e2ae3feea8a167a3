// The function app on a Flex Consumption plan. How it runs is said in functionAppConfig: of the settings that
// other plans take (FUNCTIONS_WORKER_RUNTIME, ftpsState and the like) Flex refuses or ignores a good many, see
// https://learn.microsoft.com/azure/azure-functions/flex-consumption-plan

@description('Name of the function app.')
param name string

@description('Name of its plan.')
param planName string

@description('Azure region.')
param location string

@description('Tags of both.')
param tags object

@description('Resource id of the identity that the app runs as.')
param identityId string

@description('Client id of that identity.')
param identityClientId string

@description('Blob endpoint of the storage account.')
param blobEndpoint string

@description('Queue endpoint of the storage account.')
param queueEndpoint string

@description('Table endpoint of the storage account.')
param tableEndpoint string

@description('URL of the container that holds the deployment package.')
param packageContainerUrl string

@description('Connection string of Application Insights. It holds no secret: local authentication is off.')
param applicationInsightsConnectionString string

@description('Memory of one instance, in MB.')
param instanceMemoryMB int

@description('Most instances that the app may grow to.')
param maximumInstanceCount int

@description('Ids of the subscriptions to watch.')
param watchedSubscriptionIds string[]

@description('When to scan, as an NCRONTAB expression.')
param scanSchedule string

@description('Seconds that one cluster may take.')
param scanTimeoutSeconds int

@description('Days for which history is kept.')
param retentionDays int

@description('Where to send OpenTelemetry traces and metrics; empty for nowhere.')
param otlpEndpoint string

@description('What carries the tunnel of clusters whose tag does not say.')
param tunnel string

@description('Address of a DNS server; empty for the one of the platform.')
param dnsServer string

@description('Whether nodes are probed: on or off.')
param nodeProbes string

@description('When nodes are probed, as an NCRONTAB expression.')
param nodeProbeSchedule string

@description('How many nodes of a pool are probed in one scan.')
param nodeProbesPerPool int

resource plan 'Microsoft.Web/serverfarms@2024-04-01' = {
  name: planName
  location: location
  tags: tags
  kind: 'functionapp'
  sku: {
    name: 'FC1'
    tier: 'FlexConsumption'
  }
  properties: {
    reserved: true // Linux
  }
}

resource app 'Microsoft.Web/sites@2024-04-01' = {
  name: name
  location: location
  // azd finds the app to deploy to by this tag.
  tags: union(tags, { 'azd-service-name': 'monitor' })
  kind: 'functionapp,linux'
  identity: {
    type: 'UserAssigned'
    userAssignedIdentities: {
      '${identityId}': {}
    }
  }
  properties: {
    serverFarmId: plan.id
    httpsOnly: true
    functionAppConfig: {
      runtime: {
        name: 'python'
        version: '3.13'
      }
      deployment: {
        storage: {
          type: 'blobContainer'
          value: packageContainerUrl
          authentication: {
            type: 'UserAssignedIdentity'
            userAssignedIdentityResourceId: identityId
          }
        }
      }
      scaleAndConcurrency: {
        instanceMemoryMB: instanceMemoryMB
        maximumInstanceCount: maximumInstanceCount
      }
    }
    siteConfig: {
      minTlsVersion: '1.2'
      scmMinTlsVersion: '1.2'
    }
  }
}

resource ftpPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'ftp'
  properties: {
    allow: false
  }
}

resource scmPassword 'Microsoft.Web/sites/basicPublishingCredentialsPolicies@2024-04-01' = {
  parent: app
  name: 'scm'
  properties: {
    allow: false
  }
}

var settings = {
  AzureWebJobsStorage__blobServiceUri: blobEndpoint
  AzureWebJobsStorage__queueServiceUri: queueEndpoint
  AzureWebJobsStorage__tableServiceUri: tableEndpoint
  AzureWebJobsStorage__credential: 'managedidentity'
  AzureWebJobsStorage__clientId: identityClientId
  // DefaultAzureCredential: this identity, and no search for others.
  AZURE_CLIENT_ID: identityClientId
  AZURE_TOKEN_CREDENTIALS: 'ManagedIdentityCredential'
  APPLICATIONINSIGHTS_CONNECTION_STRING: applicationInsightsConnectionString
  APPLICATIONINSIGHTS_AUTHENTICATION_STRING: 'ClientId=${identityClientId};Authorization=AAD'
  AZURE_SUBSCRIPTION_IDS: join(watchedSubscriptionIds, ',')
  SCAN_SCHEDULE: scanSchedule
  SCAN_TIMEOUT_SECONDS: string(scanTimeoutSeconds)
  RETENTION_DAYS: string(retentionDays)
  OTEL_EXPORTER_OTLP_ENDPOINT: otlpEndpoint
  TUNNEL: tunnel
  DNS_SERVER: dnsServer
  NODE_PROBES: nodeProbes
  NODE_PROBE_SCHEDULE: nodeProbeSchedule
  NODE_PROBES_PER_POOL: string(nodeProbesPerPool)
}

// In the public cloud the app knows by itself where Azure Resource Manager is.
var isPublicCloud = environment().name == 'AzureCloud'
var sovereignSettings = isPublicCloud ? {} : {
  ARM_ENDPOINT: environment().resourceManager
}

resource appSettings 'Microsoft.Web/sites/config@2024-04-01' = {
  parent: app
  name: 'appsettings'
  properties: union(settings, sovereignSettings)
}

output name string = app.name
output url string = 'https://${app.properties.defaultHostName}'
