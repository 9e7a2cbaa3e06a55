"""The shapes of what the HTTP API takes and gives, for its documentation at /docs and /openapi.json."""

from typing import Any

from pydantic import BaseModel, Field


class Error(BaseModel):
    """Why a request was not answered."""

    error: str


class Guess(BaseModel):
    """A class and its probability."""

    label: str
    confidence: float = Field(ge=0, le=1)


class Result(BaseModel):
    """What one image shows; or, with ``error``, why it could not be read."""

    name: str
    label: str | None
    confidence: float | None
    top: list[Guess]
    error: str | None


class ModelVersion(BaseModel):
    """Which model answered."""

    name: str
    version: str


class Classified(BaseModel):
    """One result per image, in the order sent."""

    model: ModelVersion
    results: list[Result]


class Predictions(BaseModel):
    """One row of probabilities per instance, in the order of the model's classes, and the likeliest class of each."""

    predictions: list[list[float]]
    labels: list[str]


class VersionState(BaseModel):
    """As TensorFlow Serving reports it."""

    version: str
    state: str
    status: dict[str, str]


class About(BaseModel):
    """The model that answers."""

    name: str
    ready: bool
    model_version_status: list[VersionState]
    created: str
    classes: list[str]
    image_size: int
    resize: str
    heat_map: bool
    metrics: dict[str, Any]
    dataset: dict[str, Any]


class ModelList(BaseModel):
    """The names of the models here."""

    models: list[str]


class State(BaseModel):
    """How the service is."""

    status: str


_BINARY = {"type": "string", "contentMediaType": "application/octet-stream"}

# Bodies are read by hand, with limits; this tells the documentation what they are.
MANY_IMAGES = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "array", "minItems": 1, "items": _BINARY}},
                }
            }
        },
    }
}
ONE_IMAGE = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {"schema": {"type": "object", "required": ["file"], "properties": {"file": _BINARY}}}
        },
    }
}
_ENCODED = {
    "type": "object",
    "required": ["b64"],
    "properties": {"b64": {"type": "string", "description": "the image file's bytes in base64"}},
    "example": {"b64": "iVBORw0KGgo…"},
}
INSTANCES = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["instances"],
                    "properties": {
                        "signature_name": {"type": "string", "enum": ["serving_default"]},
                        "instances": {
                            "type": "array",
                            "minItems": 1,
                            "items": {
                                "oneOf": [
                                    _ENCODED,
                                    {
                                        "type": "object",
                                        "required": ["image_bytes"],
                                        "properties": {"image_bytes": _ENCODED},
                                    },
                                ]
                            },
                        },
                    },
                }
            }
        },
    }
}


PNG: dict[int | str, dict[str, Any]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}}
}


def errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of error answers: every one is ``{"error": …}``."""
    meaning = {
        400: "the request cannot be understood",
        404: "no such model",
        408: "the body took too long to arrive",
        413: "the body, or the number of images, is larger than allowed",
        415: "another content type is expected",
        422: "there is no image that can be read, or a parameter is out of range",
        503: "busy or shutting down; Retry-After says when to come back",
    }
    return {code: {"model": Error, "description": meaning[code]} for code in codes}
