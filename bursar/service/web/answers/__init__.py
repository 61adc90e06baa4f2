"""What the routes answer, as models that `/openapi.json` and `/docs` show: the same names and forms that are sent.

They describe and do nothing else: an answer goes out as the mapping that its route returns. Tests compare each answer
with its model, so that neither moves without the other.
"""

from typing import Annotated, Any

import orjson
from pydantic import BaseModel, ConfigDict, GetJsonSchemaHandler, JsonValue
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from bursar.billing.values import Value

# The model is put among the named ones afterwards: pydantic would repeat it in each route. Its examples are texts until
# then: FastAPI would drop their nulls.
NAME = "x-name"


class Answer(BaseModel):
    """Base of the answers. A field without a default is always sent, if only as null."""

    model_config = ConfigDict(frozen=True)


class BillingPageAnswer(Answer):
    """Base of those that the product's billing page reads as they are: their names are camelCase."""

    model_config = ConfigDict(alias_generator=to_camel)


class _DescribedBy(Value):
    model: type[Answer]

    def __get_pydantic_json_schema__(self, _: CoreSchema, describe: GetJsonSchemaHandler) -> JsonSchemaValue:
        schema = describe(self.model.__pydantic_core_schema__)
        texts = [orjson.dumps(one).decode() for one in schema.get("examples", ())]
        return schema | {NAME: self.model.__name__} | ({"examples": texts} if texts else {})


def mapping_of(model: type[Answer]) -> Any:  # noqa: ANN401 - an annotation is no type
    """A route's `response_model`: described by the model, sent as the mapping it is, validated by nothing."""
    return Annotated[dict[str, Any], _DescribedBy(model)]


def example(**fields: JsonValue) -> ConfigDict:
    """The configuration of a model with one example of the whole."""
    return ConfigDict(json_schema_extra={"examples": [fields]})
