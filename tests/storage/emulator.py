"""An emulator of Google Cloud Storage on loopback, taught what it does not know of versions of objects."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from typing import Any

from gcp_storage_emulator import server as emulator
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects

__all__ = ["emulator_url"]

Handler = Callable[..., None]


def _generation(storage: Any, bucket: str, name: str) -> str:
    try:
        return str(storage.get_file_obj(bucket, name)["generation"])
    except NotFound:
        return "0"


def download_of_a_generation(request: Any, response: Any, storage: Any) -> None:
    """The emulator gives whatever is there: this download gives the generation asked for, as Google does."""
    wanted = request.query.get("generation", [None])[0]
    found = _generation(storage, request.params["bucket_name"], request.params["object_id"])
    if wanted in (None, found):
        objects.download(request, response, storage)
    else:
        response.status = HTTPStatus.NOT_FOUND


def _name(request: Any, storage: Any) -> str:
    """Which object a request is about: a piece of a large one names only the upload that it belongs to."""
    if "object_id" in request.params:
        return str(request.params["object_id"])
    if upload := request.query.get("upload_id"):
        return str(storage.get_resumable_file_obj(upload[0])["name"])
    return str(request.data.get("meta", request.data)["name"])


def under_condition(handler: Handler) -> Handler:
    """The emulator writes over whatever is there: this writes over the generation named, as Google does."""

    def handle(request: Any, response: Any, storage: Any, *args: Any) -> None:
        if wanted := request.query.get("ifGenerationMatch", [None])[0]:
            name = _name(request, storage)
            if wanted != _generation(storage, request.params["bucket_name"], name):
                response.status = HTTPStatus.PRECONDITION_FAILED
                return
        handler(request, response, storage, *args)

    return handle


def teach() -> None:
    """Put the handlers that know of versions in place of the emulator's own."""
    taught = {
        objects.download: download_of_a_generation,
        **{each: under_condition(each) for each in (objects.insert, objects.upload_partial, objects.delete)},
    }
    for _, handlers in emulator.HANDLERS:
        for method, handler in handlers.items():
            handlers[method] = taught.get(handler, handler)


@cache
def emulator_url() -> str:
    """Start the emulator, with a bucket named ``bucket``, on a port of its own; it ends with the process."""
    for name in ("gcp_storage_emulator", "api"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    teach()
    server = emulator.create_server("127.0.0.1", 0, in_memory=True, default_bucket="bucket")
    server._api.daemon = True
    server.start()
    return f"http://127.0.0.1:{server._api._httpd.server_address[1]}"
