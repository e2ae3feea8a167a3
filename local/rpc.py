"""What the Functions host and its Python worker say to each other.

The shapes are those of the FunctionRpc protocol that the host in Azure speaks with its language workers
(``FunctionRpc.proto`` in Azure/azure-functions-language-worker-protobuf), as plain objects: this module is
what ``azure_functions_runtime`` is handed as its ``protos``, and reads like the generated protobuf module it
expects. Only what that library touches is here. On the wire a message is four bytes of length, big-endian,
and MessagePack.
"""

import builtins
import enum
import struct
from datetime import timedelta
from typing import Any, ClassVar

import msgspec

LENGTH = struct.Struct(">I")
"""The length that goes before each message."""


class NullableString(msgspec.Struct):
    """A string that may be absent."""

    value: str


class NullableBool(msgspec.Struct):
    """A truth value that may be absent."""

    value: bool


class NullableDouble(msgspec.Struct):
    """A number that may be absent."""

    value: float


class Timestamp(msgspec.Struct):
    """A moment, in seconds since 1970 (``google.protobuf.Timestamp``)."""

    seconds: int = 0
    nanos: int = 0


class NullableTimestamp(msgspec.Struct):
    """A moment that may be absent."""

    value: Timestamp


class _SameSite(enum.IntEnum):
    """Who may send a cookie back; ``None`` (0) says nothing of it, ``ExplicitNone`` says "None"."""

    Lax = 1
    Strict = 2
    ExplicitNone = 3


setattr(_SameSite, "None", 0)  # a keyword cannot be written as a name; the worker reads it with getattr


class RpcHttpCookie(msgspec.Struct, omit_defaults=True):
    """A cookie that a function sets."""

    name: str
    value: str
    domain: NullableString | None = None
    path: NullableString | None = None
    expires: NullableTimestamp | None = None
    secure: NullableBool | None = None
    http_only: NullableBool | None = None
    same_site: int = 0
    max_age: NullableDouble | None = None

    SameSite: ClassVar[type[_SameSite]] = _SameSite


class TypedData(msgspec.Struct, omit_defaults=True):
    """A value of one of several types: the one field that is set says which."""

    string: str | None = None
    json: str | None = None
    bytes: builtins.bytes | None = None
    http: "RpcHttp | None" = None
    int: builtins.int | None = None
    double: float | None = None

    def WhichOneof(self, _group: str, /) -> str | None:  # noqa: N802 (protobuf's name)
        """The name of the field that is set, or nothing."""
        return next((name for name in self.__struct_fields__ if getattr(self, name) is not None), None)


class RpcHttp(msgspec.Struct, omit_defaults=True):
    """An HTTP request as a function gets it, or the response as it gives it."""

    method: str = ""
    url: str = ""
    headers: dict[str, str] = {}
    body: TypedData = msgspec.field(default_factory=lambda: TypedData(bytes=b""))
    params: dict[str, str] = {}
    """What the route's placeholders matched."""
    query: dict[str, str] = {}
    status_code: str = ""
    cookies: list[RpcHttpCookie] | None = None
    enable_content_negotiation: bool = False


class ParameterBinding(msgspec.Struct, omit_defaults=True):
    """A value, and the name of the parameter it belongs to."""

    name: str
    data: TypedData | None = None

    def WhichOneof(self, _group: str, /) -> str | None:  # noqa: N802 (protobuf's name)
        """``data``: no value travels by shared memory here."""
        return "data" if self.data is not None else None


class RpcException(msgspec.Struct, omit_defaults=True):
    """What went wrong in the worker: ``ValueError: …`` and the traceback."""

    message: str = ""
    stack_trace: str = ""
    source: str = ""


class StatusResult(msgspec.Struct):
    """How a request went."""

    status: int
    exception: RpcException | None = None

    Failure: ClassVar[int] = 0
    Success: ClassVar[int] = 1
    Cancelled: ClassVar[int] = 2


class BindingInfo(msgspec.Struct, omit_defaults=True):
    """One binding of a function."""

    type: str
    data_type: int | None = None
    direction: int = 0

    out: ClassVar[int] = 1
    inout: ClassVar[int] = 2
    undefined: ClassVar[int] = 0


class RpcRetryOptions(msgspec.Struct, omit_defaults=True):
    """A function's retry policy; ``max_retry_count`` is -1 for "without end"."""

    max_retry_count: int
    retry_strategy: str
    delay_interval: timedelta | None = None
    minimum_interval: timedelta | None = None
    maximum_interval: timedelta | None = None


class RpcFunctionMetadata(msgspec.Struct, omit_defaults=True):
    """A function as the worker found it; ``raw_bindings`` are the JSON texts of ``function.json``."""

    name: str
    function_id: str
    directory: str = ""
    script_file: str = ""
    entry_point: str = ""
    managed_dependency_enabled: bool = False
    is_proxy: bool = False
    language: str = ""
    bindings: dict[str, BindingInfo] = {}
    raw_bindings: list[str] = []
    retry_options: RpcRetryOptions | None = None
    properties: dict[str, str] = {}


class WorkerMetadata(msgspec.Struct, omit_defaults=True):
    """What the worker runs on."""

    runtime_name: str = ""
    runtime_version: str = ""
    worker_version: str = ""
    worker_bitness: str = ""
    custom_properties: dict[str, str] = {}


class RpcTraceContext(msgspec.Struct, omit_defaults=True):
    """The W3C trace an invocation belongs to."""

    trace_parent: str = ""
    trace_state: str = ""
    attributes: dict[str, str] = {}


class RetryContext(msgspec.Struct, omit_defaults=True):
    """Which try an invocation is."""

    retry_count: int = 0
    max_retry_count: int = 0
    exception: RpcException = msgspec.field(default_factory=RpcException)


class WorkerInitRequest(msgspec.Struct, tag=True):
    """Host to worker, first: load the app in this directory."""

    function_app_directory: str
    capabilities: dict[str, str] = {}


class WorkerInitResponse(msgspec.Struct, tag=True):
    """Worker to host: loaded, or why not."""

    result: StatusResult
    capabilities: dict[str, str] = {}
    worker_metadata: WorkerMetadata | None = None


class FunctionsMetadataRequest(msgspec.Struct, tag=True):
    """Host to worker: which functions are there?"""

    function_app_directory: str


class FunctionMetadataResponse(msgspec.Struct, tag=True):
    """Worker to host: these; nothing at all where there is no ``function_app.py``."""

    result: StatusResult
    function_metadata_results: list[RpcFunctionMetadata] | None = None
    use_default_metadata_indexing: bool = False


class FunctionLoadRequest(msgspec.Struct, tag=True):
    """Host to worker: make this function ready."""

    function_id: str


class FunctionLoadResponse(msgspec.Struct, tag=True):
    """Worker to host: ready, or why not."""

    function_id: str
    result: StatusResult


class InvocationRequest(msgspec.Struct, tag=True):
    """Host to worker: run this function."""

    invocation_id: str
    function_id: str
    input_data: list[ParameterBinding] = []
    trigger_metadata: dict[str, TypedData] = {}
    trace_context: RpcTraceContext = msgspec.field(default_factory=RpcTraceContext)
    retry_context: RetryContext = msgspec.field(default_factory=RetryContext)


class InvocationResponse(msgspec.Struct, tag=True):
    """Worker to host: what a run gave."""

    invocation_id: str
    result: StatusResult
    return_value: TypedData | None = None
    output_data: list[ParameterBinding] = []


class InvocationCancel(msgspec.Struct, tag=True):
    """Host to worker: nobody waits for this run any more."""

    invocation_id: str


class RpcLog(msgspec.Struct, tag=True):
    """Worker to host: a line of log or print; ``invocation_id`` is empty outside any run."""

    category: str
    level: int
    """As in :mod:`logging`."""
    message: str
    invocation_id: str = ""


type Message = (
    WorkerInitRequest
    | WorkerInitResponse
    | FunctionsMetadataRequest
    | FunctionMetadataResponse
    | FunctionLoadRequest
    | FunctionLoadResponse
    | InvocationRequest
    | InvocationResponse
    | InvocationCancel
    | RpcLog
)

_encoder = msgspec.msgpack.Encoder()
_decoder: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(Message)


def pack(message: Message) -> bytes:
    """The bytes of a message, its length before it."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def unpack(body: bytes) -> Message:
    """The message that these bytes, without the length, are."""
    message: Message = _decoder.decode(body)
    return message
