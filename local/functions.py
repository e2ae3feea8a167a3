"""The functions of an app as the host sees them: the worker's metadata, checked, with settings filled in.

A function that cannot be run is said to be "in error", in the words of the host in Azure, and the others
still run; what makes the whole app fail is found by the worker, before this.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from local import rpc
from local.app_config import AppSettings, UnresolvedSettingError

TRIGGERS = ("httpTrigger", "timerTrigger", "queueTrigger")
OUTPUTS = ("http", "queue")

_BUILT_IN_ROUTES = ("admin", "runtime")
_TRUE = {"1", "true"}
_QUEUE_NAME = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")


class FunctionInError(Exception):
    """The function cannot be run; the message says why, in the host's words."""


@dataclass(frozen=True)
class Function:
    """One function that can be run."""

    name: str
    id: str
    """The worker's name for it."""
    trigger: dict[str, Any]
    """The trigger's ``function.json`` binding, with settings filled in."""
    outputs: dict[str, dict[str, Any]]
    """The output bindings, by parameter name; ``$return`` is what the function returns."""
    retry: rpc.RpcRetryOptions | None
    bindings: tuple[dict[str, Any], ...]
    """All of its bindings, as the app wrote them."""
    disabled: bool = False

    @property
    def type(self) -> str:
        """What starts it: ``httpTrigger``, ``timerTrigger`` or ``queueTrigger``."""
        return str(self.trigger["type"])

    @property
    def methods(self) -> tuple[str, ...]:
        """The HTTP methods it takes; none means any."""
        methods = self.trigger.get("methods") or ()
        return tuple(str(method).upper() for method in methods)

    @property
    def route(self) -> str:
        """The route template, without the app's prefix."""
        route = self.trigger.get("route")
        return (self.name if route is None else str(route)).strip("/")


def _fill_in(binding: dict[str, Any], settings: AppSettings) -> dict[str, Any]:
    """The binding with settings in place of ``%NAME%``: those properties that the extensions resolve."""
    filled = dict(binding)
    for name in ("schedule", "queueName", "route"):
        if isinstance(binding.get(name), str):
            filled[name] = settings.resolve(binding[name])
    return filled


def _check_queue_name(name: str) -> None:
    """The rules of the service: https://learn.microsoft.com/rest/api/storageservices/naming-queues-and-metadata."""
    if "{" in name:
        raise FunctionInError(
            f"The queue name '{name}' is a binding expression, which this local host cannot resolve."
        )
    if not 3 <= len(name) <= 63 or not _QUEUE_NAME.fullmatch(name):
        raise FunctionInError(
            f"The queue name '{name}' is not valid: 3 to 63 letters, digits and single dashes between them."
        )


def read_function(metadata: rpc.RpcFunctionMetadata, settings: AppSettings) -> Function:
    """One function of what the worker found."""
    raw: list[dict[str, Any]] = [json.loads(binding) for binding in metadata.raw_bindings]
    unknown = [
        str(binding["type"])
        for binding in raw
        if binding["type"] not in (OUTPUTS if str(binding["direction"]).upper() == "OUT" else TRIGGERS)
    ]
    if unknown:
        raise FunctionInError(
            f"The binding type(s) '{', '.join(unknown)}' are not registered. "
            f"This local host knows {', '.join(TRIGGERS)} and, for output, {', '.join(OUTPUTS)}."
        )
    try:
        bindings = [_fill_in(binding, settings) for binding in raw]
    except UnresolvedSettingError as error:
        raise FunctionInError(
            f"Microsoft.Azure.WebJobs.Host: Error indexing method 'Functions.{metadata.name}'. "
            f"Microsoft.Azure.WebJobs.Host: {error}"
        ) from error
    triggers = [binding for binding in bindings if binding["type"] in TRIGGERS]
    if len(triggers) != 1:
        raise FunctionInError(
            "No trigger binding specified. A function must have a trigger input binding."
            if not triggers
            else "Multiple trigger bindings defined. A function can only have a single trigger binding."
        )
    for binding in bindings:
        if "queueName" in binding:
            _check_queue_name(str(binding["queueName"]).lower())
    flag = settings.get(f"AzureWebJobs.{metadata.name}.Disabled") or settings.get(
        f"AzureWebJobs_{metadata.name}_Disabled"
    )
    return Function(
        name=metadata.name,
        id=metadata.function_id,
        trigger=triggers[0],
        outputs={str(binding["name"]): binding for binding in bindings if binding["type"] in OUTPUTS},
        retry=metadata.retry_options,
        bindings=tuple(raw),
        disabled=(flag or "").strip().lower() in _TRUE,
    )


def check_route(function: Function, others: Sequence[Function]) -> None:
    """Refuse a route that is the host's own, or that another function has for the same method.

    Source: ``WebScriptHost.ValidateFunction`` and ``HttpRoutesConflict`` of Azure/azure-functions-host.
    """
    route = function.route.lower()
    if route.split("/")[0] in _BUILT_IN_ROUTES:
        raise FunctionInError("The specified route conflicts with one or more built in routes.")
    for other in others:
        if other.type != "httpTrigger" or other.route.lower() != route:
            continue
        if not function.methods or not other.methods or set(function.methods) & set(other.methods):
            raise FunctionInError(
                f"The route specified conflicts with the route defined by function '{other.name}'."
            )
