"""An Azure simulator: Azure Resource Manager over HTTP, from a directory of raw ARM JSON.

It answers the real `aio` management clients the way Azure does: bearer tokens from a managed-identity
endpoint, API versions, paging by `nextLink`, role-based access, ARM's throttle, ARM's error bodies. Faults
are made on demand under `/_sim/`. It answers DNS too, if it is told to. Start it with
`python -m local.azure --fleet DIR`.
"""
