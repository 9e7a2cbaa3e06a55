"""The routes. Each is short: what is asked, by whom it is answered, how the answer looks."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

from fastapi import FastAPI, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from starlette.exceptions import HTTPException

from distributed_cls import __version__
from distributed_cls.predictor.image_input import BadImageError
from distributed_cls.predictor.likeliest import top
from distributed_cls.serving import page, shapes
from distributed_cls.serving.batching import OverloadedError
from distributed_cls.serving.guard import Guard
from distributed_cls.serving.requests import Picture, uploaded
from distributed_cls.serving.service import Answer, Service
from distributed_cls.serving.tf_serving import about, add_model_routes, add_predict_routes
from distributed_cls.serving.versions import Loaded

_FRESH = {"cache-control": "no-cache"}


def create_app(make_service: Callable[[], Service]) -> FastAPI:
    """The application. ``make_service`` is called once, on the event loop that will serve."""
    service = make_service()

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.start()
        yield
        await service.stop()

    app = FastAPI(
        title="Image classifier",
        description="Say what an image shows, with how much confidence.",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # the page of FastAPI loads scripts from elsewhere; ours needs none
        redoc_url=None,
        redirect_slashes=False,  # a redirect names an address that a proxy in front may not have
        root_path=service.settings.root_path,
    )
    _add_error_answers(app)
    _add_page(app, service)
    add_model_routes(app, service)
    _add_state(app, service)
    _add_classify(app, service)
    add_predict_routes(app, service)
    app.add_middleware(Guard, settings=service.settings, metrics=service.metrics)
    return app


def _add_error_answers(app: FastAPI) -> None:
    def answer(status: int, message: str, headers: dict[str, str] | None = None) -> JSONResponse:
        return JSONResponse({"error": message}, status, headers=headers)

    async def on_http(request: Request, error: Exception) -> Response:
        assert isinstance(error, HTTPException)
        headers, message = dict(error.headers or {}), str(error.detail)
        if message == "Not Found":
            message = "There is nothing at this address. GET /docs lists the addresses."
        elif message == "Method Not Allowed":
            allowed = {name.lower(): value for name, value in headers.items()}.get("allow", "another method")
            message = f"{request.method[:20]} is not allowed here; use {allowed}. GET /docs has an example."
        return answer(error.status_code, message, headers)

    async def on_parameter(_: Request, error: Exception) -> Response:
        assert isinstance(error, RequestValidationError)
        first = error.errors()[0]
        return answer(422, f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}.")

    async def on_overload(_: Request, error: Exception) -> Response:
        assert isinstance(error, OverloadedError)
        return answer(503, str(error), {"retry-after": str(error.retry_after)})

    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RequestValidationError, on_parameter)
    app.add_exception_handler(OverloadedError, on_overload)


def _add_page(app: FastAPI, service: Service) -> None:
    max_bytes = int(service.settings.max_body_megabytes * 2**20)

    @app.get("/", include_in_schema=False)
    async def index() -> HTMLResponse:
        described = about(service.versions.current, service.versions.name)
        return HTMLResponse(page.index(described, max_bytes, service.settings.unclear_below), headers=_FRESH)

    @app.get("/docs", include_in_schema=False)
    async def docs(request: Request) -> HTMLResponse:
        here, version = str(request.base_url).rstrip("/"), service.versions.current.export.version
        return HTMLResponse(page.documentation(app.openapi(), service.versions.name, version, here), headers=_FRESH)

    @app.get("/favicon.ico", include_in_schema=False)
    async def favicon() -> Response:
        return Response(page.static("icon.svg"), media_type="image/svg+xml", headers=_FRESH)

    @app.get("/static/{name}", include_in_schema=False)
    async def static(name: str) -> Response:
        if name not in page.STATIC:
            raise HTTPException(404, "No such file.")
        return Response(page.static(name), media_type=page.STATIC[name], headers=_FRESH)


def _add_state(app: FastAPI, service: Service) -> None:
    @app.get("/healthz", response_model=shapes.State, tags=["state"], summary="Is the process alive?")
    async def healthz() -> JSONResponse:
        return JSONResponse({"status": "ok"})

    @app.get(
        "/readyz", response_model=shapes.State, responses=shapes.errors(503), tags=["state"],
        summary="Should requests be sent here?",
    )  # fmt: skip
    async def readyz() -> JSONResponse:
        if not service.ready:
            raise HTTPException(503, "Shutting down.", headers={"retry-after": "5"})
        return JSONResponse({"status": "ready"})

    @app.get(
        "/metrics", response_class=Response, tags=["state"], summary="Figures for Prometheus",
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )  # fmt: skip
    async def metrics() -> Response:
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4; charset=utf-8")


def _add_classify(app: FastAPI, service: Service) -> None:
    @app.post(
        "/classify", response_model=shapes.Classified, responses=shapes.errors(400, 408, 413, 415, 422, 503),
        openapi_extra=shapes.MANY_IMAGES, tags=["answers"], summary="Classify uploaded images",
    )  # fmt: skip
    async def classify(
        request: Request, top_k: Annotated[int, Query(alias="top", ge=1, le=1000, description="classes per image")] = 5
    ) -> JSONResponse:
        pictures = await uploaded(request, service.settings.max_images)
        loaded = service.versions.current
        answers = await service.classify(loaded, pictures)
        results = [_result(picture, answer, loaded, top_k) for picture, answer in zip(pictures, answers, strict=True)]
        version = {"name": service.versions.name, "version": loaded.export.version}
        answered: dict[str, Any] = {"model": version, "results": results}
        if all(result["error"] for result in results):  # curl -f and its like look at the status alone
            return JSONResponse({"error": _all_bad(results), **answered}, 422)
        return JSONResponse(answered)

    @app.post(
        "/explain", response_class=Response, openapi_extra=shapes.ONE_IMAGE, tags=["answers"],
        summary="Where the model found the class (Grad-CAM), as a PNG to lay over the image",
        responses=shapes.PNG | shapes.errors(400, 408, 413, 415, 422, 503),
    )  # fmt: skip
    async def explain(
        request: Request, label: Annotated[str | None, Query(description="a class; by default the likeliest")] = None
    ) -> Response:
        pictures = await uploaded(request, 1)
        loaded = service.versions.current
        if not loaded.can_explain:
            raise HTTPException(422, "This model has no convolutions, so there is no heat map.")
        if label is not None and label not in loaded.export.classes:
            raise HTTPException(422, f"Unknown label. Classes: {_listed(loaded.export.classes)}.")
        try:
            png = await service.explain(loaded, pictures[0], label)
        except BadImageError as bad:
            raise HTTPException(422, str(bad)) from None
        return Response(png, media_type="image/png")


def _result(picture: Picture, answer: Answer | BadImageError, loaded: Loaded, top_k: int) -> dict[str, Any]:
    if isinstance(answer, BadImageError):
        nothing = dict.fromkeys(("label", "confidence", "accepted"))
        return {"name": picture.name, **nothing, "top": [], "error": str(answer)}
    likeliest = top(answer.probabilities, loaded.export.classes, top_k)
    guesses = [{"label": label, "confidence": share} for label, share in likeliest]
    accepted = loaded.export.confidence.accepts(answer.confidence, answer.energy)
    return {"name": picture.name, **guesses[0], "accepted": accepted, "top": guesses, "error": None}


def _listed(classes: list[str], most: int = 50) -> str:
    rest = f" and {len(classes) - most} more" if len(classes) > most else ""
    return ", ".join(classes[:most]) + rest


def _all_bad(results: list[dict[str, Any]]) -> str:
    if len(results) == 1:
        return str(results[0]["error"])
    return f"None of the {len(results)} images can be read. The first, {results[0]['name']}: {results[0]['error']}"
