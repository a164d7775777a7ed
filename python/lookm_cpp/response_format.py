"""What an answer has to look like, in OpenAI's form and in llama-cpp-python's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypeAlias

from lookm_cpp.brief import brief

ResponseFormat: TypeAlias = Mapping[str, Any]
"""``{"type": "json_object"}``, maybe with a ``"schema"``; ``{"type": "json_schema",
"json_schema": {"schema": {...}}}``; or ``{"type": "text"}``."""

_ANY_OBJECT = {"type": "object"}


def schema_text(response_format: ResponseFormat | None) -> str:
    """The JSON schema of an answer, as text; empty if it may be anything.

    Raises:
        ValueError: It is in neither form, or the schema is not JSON.

    >>> schema_text({"type": "json_object"}), schema_text({"type": "text"}), schema_text(None)
    ('{"type": "object"}', '', '')
    >>> schema_text({"type": "json_schema", "json_schema": {"schema": {"type": "integer"}}})
    '{"type": "integer"}'
    """
    if response_format is None:
        return ""
    kind = response_format.get("type") if isinstance(response_format, Mapping) else None
    if kind == "text":
        return ""
    if kind == "json_object":
        schema = response_format.get("schema", _ANY_OBJECT)
    elif kind == "json_schema":
        inner = response_format.get("json_schema")
        schema = inner.get("schema") if isinstance(inner, Mapping) else None
    else:
        raise ValueError(
            f"response_format is {brief(response_format)}, expected a dict of type text, "
            "json_object or json_schema"
        )
    if not isinstance(schema, Mapping):
        raise ValueError(f"response_format has the schema {brief(schema)}, expected a dict")
    try:
        # an empty schema is any object, as in llama-server
        return json.dumps(schema or _ANY_OBJECT, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"response_format has a schema that is not JSON: {error}") from None
