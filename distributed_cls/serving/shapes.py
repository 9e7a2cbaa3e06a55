"""The shapes of what the HTTP API takes and gives, for its documentation at /docs and /openapi.json."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


def _example(example: dict[str, Any]) -> ConfigDict:
    """What an answer looks like, for the page of the documentation."""
    return ConfigDict(json_schema_extra={"example": example})


class Error(BaseModel):
    """Why a request was not answered."""

    model_config = _example({"error": "Expected at most 32 images in one request."})
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
    accepted: bool | None = Field(description="false: none of these classes, by the model's own threshold")
    top: list[Guess]
    error: str | None


class ModelVersion(BaseModel):
    """Which model answered."""

    name: str
    version: str


class Classified(BaseModel):
    """One result per image, in the order sent."""

    model_config = _example(
        {
            "model": {"name": "clothes", "version": "68ee0b94"},
            "results": [
                {
                    "name": "photo.jpg",
                    "label": "dress",
                    "confidence": 0.946,
                    "accepted": True,
                    "top": [{"label": "dress", "confidence": 0.946}, {"label": "coat", "confidence": 0.031}],
                    "error": None,
                }
            ],
        }
    )
    model: ModelVersion
    results: list[Result]


class Predictions(BaseModel):
    """One row of probabilities per instance, in the order of the model's classes, the most probable class, and whether
    it counts: false is "none of these"."""

    model_config = _example({"predictions": [[0.023, 0.031, 0.946]], "labels": ["dress"], "accepted": [True]})
    predictions: list[list[float]]
    labels: list[str]
    accepted: list[bool]


class VersionState(BaseModel):
    """As TensorFlow Serving reports it."""

    version: str
    state: str
    status: dict[str, str]


_STATE = {"version": "68ee0b94", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}


class VersionStates(BaseModel):
    """As TensorFlow Serving reports them."""

    model_config = _example({"model_version_status": [_STATE]})
    model_version_status: list[VersionState]


class Metadata(BaseModel):
    """As TensorFlow Serving reports it: ``model_spec`` {name, version}, ``metadata`` {signature_def}."""

    model_config = _example(
        {
            "model_spec": {"name": "clothes", "signature_name": "", "version": "68ee0b94"},
            "metadata": {"signature_def": {"signature_def": {"serving_default": {"inputs": "…", "outputs": "…"}}}},
        }
    )
    model_spec: dict[str, str]
    metadata: dict[str, Any]


class About(BaseModel):
    """The model that answers."""

    model_config = _example(
        {
            "name": "clothes",
            "ready": True,
            "model_version_status": [_STATE],
            "architecture": "cnn",
            "created": "2026-11-25T07:00:00+00:00",
            "classes": ["bag", "coat", "dress"],
            "image_size": 64,
            "resize": "stretch",
            "heat_map": True,
            "threshold": 5.5,
            "reject_by": "energy",
            "metrics": {"test": {"examples": 180, "accuracy": 0.956}},
            "dataset": {"name": "clothes", "fingerprint": "5d41402a"},
        }
    )
    name: str
    ready: bool
    model_version_status: list[VersionState]
    architecture: str
    created: str
    classes: list[str]
    image_size: int
    resize: str
    heat_map: bool
    threshold: float | None  # of the score; below it the answer is none of these; null: there is none
    reject_by: str  # the score: energy or confidence
    metrics: dict[str, Any]
    dataset: dict[str, Any]


class ModelList(BaseModel):
    """The names of the models here."""

    model_config = _example({"models": ["clothes"]})
    models: list[str]


class State(BaseModel):
    """How the service is."""

    model_config = _example({"status": "ok"})
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


ERROR_MEANINGS = {
    400: "the request cannot be understood",
    404: "no such model, or another version",
    408: "the body took too long to arrive",
    413: "the body, or the number of images, is larger than allowed",
    415: "another content type or encoding is expected",
    422: "no image can be read, or a parameter is out of range",
    503: "busy or shutting down; Retry-After says when to come back",
}


def errors(*codes: int) -> dict[int | str, dict[str, Any]]:
    """The documentation of error answers: every one is ``{"error": …}``."""
    return {code: {"model": Error, "description": ERROR_MEANINGS[code]} for code in codes}
