"""The routes that TensorFlow Serving and KServe V1 have as well: which models, their state, metadata, predictions."""

from typing import Annotated, Any

from fastapi import FastAPI, Path, Request
from fastapi.responses import JSONResponse
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException

from distributed_cls.contracts.codec import Json
from distributed_cls.predictor.image_input import BadImageError
from distributed_cls.predictor.likeliest import top
from distributed_cls.serving import shapes
from distributed_cls.serving.requests import instances
from distributed_cls.serving.service import Service
from distributed_cls.serving.versions import Loaded


class _Plain(StringConvertor):
    """A name without a verb: ``pets:predict`` is the address of another route, whatever the method."""

    regex = "[^/:]+"


register_url_convertor("plain", _Plain())
_Name = Annotated[str, Path(description="a name from GET /v1/models")]
_Version = Annotated[str, Path(description="a version from GET /v1/models/{name}, or the number of its folder")]
_MODEL_ERRORS = shapes.errors(404, 422)
_PREDICT_ERRORS = shapes.errors(400, 404, 408, 413, 415, 422, 503)


def add_model_routes(app: FastAPI, service: Service) -> None:
    """What the model is, with and without its version."""

    @app.get("/v1/models", response_model=shapes.ModelList, tags=["model"], summary="Which models are here")
    async def models() -> JSONResponse:
        return JSONResponse({"models": [service.versions.name]})

    @app.get(
        "/v1/models/{name:plain}", response_model=shapes.About, responses=_MODEL_ERRORS, tags=["model"],
        summary="What the model is",
    )  # fmt: skip
    async def model(name: _Name) -> JSONResponse:
        return JSONResponse(about(_chosen(service, name), service.versions.name))

    @app.get(
        "/v1/models/{name:plain}/versions/{version:plain}", response_model=shapes.VersionStates,
        responses=_MODEL_ERRORS, tags=["model"], summary="The state of a version, as TensorFlow Serving tells it",
    )  # fmt: skip
    async def version_state(name: _Name, version: _Version) -> JSONResponse:
        return JSONResponse({"model_version_status": [_state(_chosen(service, name, version))]})

    @app.get(
        "/v1/models/{name:plain}/metadata", response_model=shapes.Metadata, responses=_MODEL_ERRORS, tags=["model"],
        summary="The model's signature, as TensorFlow Serving tells it",
    )  # fmt: skip
    async def metadata(name: _Name) -> JSONResponse:
        return JSONResponse(_metadata(_chosen(service, name), name))

    @app.get(
        "/v1/models/{name:plain}/versions/{version:plain}/metadata", response_model=shapes.Metadata,
        responses=_MODEL_ERRORS, tags=["model"], summary="The signature of a version",
    )  # fmt: skip
    async def version_metadata(name: _Name, version: _Version) -> JSONResponse:
        return JSONResponse(_metadata(_chosen(service, name, version), name))


def add_predict_routes(app: FastAPI, service: Service) -> None:
    """Images in base64 to rows of probabilities, by the current version or by the one that is named."""

    @app.post(
        "/v1/models/{name}:predict", response_model=shapes.Predictions, openapi_extra=shapes.INSTANCES,
        responses=_PREDICT_ERRORS, tags=["answers"],
        summary="Classify images in base64 (TensorFlow Serving and KServe V1)",
    )  # fmt: skip
    async def predict(request: Request, name: _Name) -> JSONResponse:
        return await _predicted(service, _chosen(service, name), request)

    @app.post(
        "/v1/models/{name}/versions/{version}:predict", response_model=shapes.Predictions, responses=_PREDICT_ERRORS,
        openapi_extra=shapes.INSTANCES, tags=["answers"], summary="The same, by this version or not at all",
    )  # fmt: skip
    async def version_predict(request: Request, name: _Name, version: _Version) -> JSONResponse:
        return await _predicted(service, _chosen(service, name, version), request)


async def _predicted(service: Service, loaded: Loaded, request: Request) -> JSONResponse:
    pictures = await instances(request, service.settings.max_images)
    rows: list[list[float]] = []
    labels: list[str] = []
    accepted: list[bool] = []
    bad: list[str] = []
    for picture, answer in zip(pictures, await service.classify(loaded, pictures), strict=True):
        if isinstance(answer, BadImageError):
            bad.append(f"{picture.name}: {answer}")
            continue
        rows.append(answer.probabilities.tolist())
        labels.append(top(answer.probabilities, loaded.export.classes, 1)[0][0])
        accepted.append(loaded.export.confidence.accepts(answer.confidence, answer.energy))
    if bad:  # rows of probabilities have no place for an error
        raise HTTPException(422, f"{len(bad)} of {len(pictures)} images cannot be read. {bad[0]}")
    return JSONResponse({"predictions": rows, "labels": labels, "accepted": accepted})


def _chosen(service: Service, name: str, version: str | None = None) -> Loaded:
    if name != service.versions.name:
        raise HTTPException(404, f"No such model. Available: {service.versions.name}.")
    loaded = service.versions.current
    if version is not None and version not in loaded.version_names:
        raise HTTPException(404, f"This version is not served. Available: {' or '.join(loaded.version_names)}.")
    return loaded


def about(loaded: Loaded, name: str) -> dict[str, Json]:
    """What the model is: ``shapes.About``."""
    export = loaded.export
    metrics: dict[str, Json] = {split: dict(figures) for split, figures in export.metrics.items()}
    return {
        "name": name,
        "ready": True,
        "model_version_status": [_state(loaded)],
        "architecture": export.name,
        "created": export.created,
        "classes": list(export.classes),
        "image_size": export.image_size,
        "resize": export.resize,
        "heat_map": loaded.can_explain,
        "threshold": export.confidence.threshold,
        "reject_by": export.confidence.reject_by.value,
        "metrics": metrics,
        "dataset": dict(export.dataset),
    }


def _state(loaded: Loaded) -> Json:
    status: Json = {"error_code": "OK", "error_message": ""}
    return {"version": loaded.export.version, "state": "AVAILABLE", "status": status}


def _metadata(loaded: Loaded, name: str) -> dict[str, Any]:
    """The signature ``serving_default`` in the form of TensorFlow Serving's GetModelMetadata."""
    signature = {
        "inputs": {"image_bytes": _tensor("DT_STRING", "serving_default_image_bytes:0")},
        "outputs": {"probabilities": _tensor("DT_FLOAT", "StatefulPartitionedCall:0", len(loaded.export.classes))},
        "method_name": "tensorflow/serving/predict",
    }
    return {
        "model_spec": {"name": name, "signature_name": "", "version": loaded.export.version},
        "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
    }


def _tensor(kind: str, name: str, *inner: int) -> dict[str, Any]:
    """A tensor whose first dimension is the batch."""
    dimensions = [{"size": str(size), "name": ""} for size in (-1, *inner)]
    return {"dtype": kind, "tensor_shape": {"dim": dimensions, "unknown_rank": False}, "name": name}
