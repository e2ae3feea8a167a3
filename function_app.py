"""Every trigger and binding of the monitor, and nothing else: the work is in `pipeline`."""

import typing

import azure.functions as func

app = func.FunctionApp(http_auth_level=func.AuthLevel.FUNCTION)

STORAGE = "AzureWebJobsStorage"
SCAN_REQUESTS = "scan-requests"
CLUSTER_SCANS = "cluster-scans"


@app.timer_trigger(arg_name="timer", schedule="%SCAN_SCHEDULE%", use_monitor=True)
@app.queue_output(arg_name="requests", queue_name=SCAN_REQUESTS, connection=STORAGE)
async def scheduled_scan(timer: func.TimerRequest, requests: func.Out[str]) -> None:  # noqa: ARG001
    """Ask for a scan of everything, as often as SCAN_SCHEDULE says."""
    from pipeline import scan

    requests.set(scan.request())


@app.timer_trigger(arg_name="timer", schedule="%NODE_PROBE_SCHEDULE%", use_monitor=True)
@app.queue_output(arg_name="requests", queue_name=SCAN_REQUESTS, connection=STORAGE)
async def scheduled_probe(timer: func.TimerRequest, requests: func.Out[str]) -> None:  # noqa: ARG001
    """Ask for a scan with probes of nodes, as often as NODE_PROBE_SCHEDULE says, if they are on."""
    from pipeline import scan

    if message := scan.probe_request():
        requests.set(message)


@app.queue_trigger(arg_name="message", queue_name=SCAN_REQUESTS, connection=STORAGE)
@app.queue_output(arg_name="messages", queue_name=CLUSTER_SCANS, connection=STORAGE)
async def start_scan(message: func.QueueMessage, messages: func.Out[typing.List[str]]) -> None:
    """Find the clusters and queue a scan of each."""
    from pipeline import scan

    messages.set(await scan.start(message.get_body().decode()))


@app.queue_trigger(arg_name="message", queue_name=CLUSTER_SCANS, connection=STORAGE)
async def scan_cluster(message: func.QueueMessage) -> None:
    """Collect, check and record one cluster."""
    from pipeline import scan

    await scan.scan_cluster(message.get_body().decode())


@app.queue_trigger(arg_name="message", queue_name=f"{CLUSTER_SCANS}-poison", connection=STORAGE)
async def give_up_cluster(message: func.QueueMessage) -> None:
    """Make a cluster UNKNOWN whose scan failed at every try."""
    from pipeline import scan

    await scan.give_up(message.get_body().decode(errors="replace"))


@app.queue_trigger(arg_name="message", queue_name=f"{SCAN_REQUESTS}-poison", connection=STORAGE)
async def give_up_scan(message: func.QueueMessage) -> None:
    """Mark a scan as failed whose clusters could not be found."""
    from pipeline import scan

    await scan.give_up_start(message.get_body().decode(errors="replace"))


@app.route(route="findings", methods=["GET"])
async def findings(req: func.HttpRequest) -> func.HttpResponse:
    """Query findings."""
    from pipeline import report, requests

    return await requests.answer(req, report.findings)


@app.route(route="findings/{id}", methods=["GET"])
async def finding(req: func.HttpRequest) -> func.HttpResponse:
    """One finding, with its history."""
    from pipeline import report, requests

    return await requests.answer(req, report.finding)


@app.route(route="clusters", methods=["GET"])
async def clusters(req: func.HttpRequest) -> func.HttpResponse:
    """Every cluster with the outcome of every check."""
    from pipeline import report, requests

    return await requests.answer(req, report.clusters)


@app.route(route="clusters/{key}", methods=["GET"])
async def cluster(req: func.HttpRequest) -> func.HttpResponse:
    """One cluster."""
    from pipeline import report, requests

    return await requests.answer(req, report.cluster)


@app.route(route="scans", methods=["POST"])
@app.queue_output(arg_name="asked", queue_name=SCAN_REQUESTS, connection=STORAGE)
@app.queue_output(arg_name="messages", queue_name=CLUSTER_SCANS, connection=STORAGE)
async def scan_now(
    req: func.HttpRequest, asked: func.Out[str], messages: func.Out[typing.List[str]]
) -> func.HttpResponse:
    """Scan now, all clusters or the ones named."""
    from pipeline import report, requests

    async def start_scan(request: func.HttpRequest) -> requests.Answer:
        return await report.start_scan(request, asked, messages)

    return await requests.answer(req, start_scan)


@app.route(route="scans/{id}", methods=["GET"])
async def scan(req: func.HttpRequest) -> func.HttpResponse:
    """How far a scan has come."""
    from pipeline import report, requests

    return await requests.answer(req, report.scan)


@app.route(route="alerts", methods=["GET"])
async def alerts(req: func.HttpRequest) -> func.HttpResponse:
    """What is alerting now, in the common alert schema."""
    from pipeline import alerts, requests

    return await requests.answer(req, alerts.firing)


@app.route(route="alerts", methods=["POST"])
@app.queue_output(arg_name="messages", queue_name=CLUSTER_SCANS, connection=STORAGE)
async def take_alert(req: func.HttpRequest, messages: func.Out[typing.List[str]]) -> func.HttpResponse:
    """An action group of Azure Monitor calls this."""
    from pipeline import alerts, requests

    async def receive(request: func.HttpRequest) -> requests.Answer:
        return await alerts.receive(request, messages)

    return await requests.answer(req, receive)


@app.route(route="health", methods=["GET"], auth_level=func.AuthLevel.ANONYMOUS)
async def health(req: func.HttpRequest) -> func.HttpResponse:
    """Is the monitor itself well?"""
    from pipeline import report, requests

    return await requests.answer(req, report.health)
