"""The Open Inference Protocol v2 over HTTP, with binary tensors (tritonclient makes the bodies)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from inferload.errors import PlanError
from inferload.targets.remote.failures import MALFORMED, CutOff, NoAnswer, words_of
from inferload.targets.remote.protocols.json_bodies import JSON, decoded, encoded, glance
from inferload.targets.remote.protocols.protocol import Asking, HttpProtocol, Request
from inferload.targets.remote.protocols.v2_tensors import (
    WORDS,
    arrays_of,
    items_in,
    model_of,
    tensor_of,
)

if TYPE_CHECKING:
    from inferload.records.server import ServerModel
    from inferload.targets.inputs.call_input import CallInput
    from inferload.targets.remote.address import Address

# The extension for binary data: how long the JSON before it is.
_HEADER = "Inference-Header-Content-Length"
# A header of more is not read in each call.
_MOST_READ = 16_384


class V2Http(HttpProtocol):
    """One model of a server that speaks it: KServe, Triton, MLServer, OpenVINO."""

    words = f"{WORDS} over HTTP"

    def __init__(self, address: Address) -> None:
        self._name = address.model or ""
        version = f"/versions/{quote(address.version)}" if address.version else ""
        self._path = f"{address.base}/v2/models/{quote(self._name, safe='')}{version}"
        self._inputs: list[dict[str, Any]] = []

    async def meet(self, asking: Asking) -> ServerModel | None:
        """Its metadata: names, types and shapes."""
        status, body = await asking.get(self._path)
        if status == 404:
            raise PlanError(
                f"the server has no model {self._name} (status 404 for {self._path}): "
                f"{words_of(body)}"
            )
        try:
            found = decoded(body) if status == 200 else {}
            told = model_of(found, self._name)
            own = [{"name": str(one["name"])} | one for one in found.get("inputs") or ()]
        except (NoAnswer, *MALFORMED):
            return None  # a server that says nothing of its models can be asked all the same
        self._inputs = own
        return told

    def request(self, number: int, one: CallInput) -> Request:
        """Tensors as binary data; a body of JSON as it is."""
        path = f"{self._path}/infer"
        if isinstance(one.kwargs.get("inputs"), list):
            return Request(path=path, headers=JSON, body=encoded(number, dict(one.kwargs)))
        from tritonclient.http import InferenceServerClient, InferInput

        arrays = arrays_of(number, one, self._inputs)
        tensors = []
        for name, kind, array in arrays:
            tensor = InferInput(name, list(array.shape), kind)
            tensor.set_data_from_numpy(array)
            tensors.append(tensor)
        body, length = InferenceServerClient.generate_request_body(tensors)
        headers = JSON
        if length is not None:
            headers = {"Content-Type": "application/octet-stream", _HEADER: str(length)}
        return Request(path=path, headers=headers, body=body, items=items_in(arrays, one))

    def looked_at(self, body: bytes, headers: Any) -> None:
        """Whether it has outputs, and their binary data is all there."""
        length = headers.get(_HEADER)
        if length is None:
            glance(body, b'"outputs"')
            return
        if not (length.isascii() and length.isdigit()) or int(length) > len(body):
            raise CutOff(f"the answer has {len(body):,} bytes, and its header says {length[:20]}")
        size = int(length)
        if size > _MOST_READ:
            return
        try:
            outputs = json.loads(body[:size])["outputs"]
            sizes = [int(one.get("parameters", {}).get("binary_data_size", 0)) for one in outputs]
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NoAnswer(f"the answer has no outputs: {words_of(body[:size])}") from None
        if not outputs:
            raise NoAnswer("the answer has no outputs")
        if sum(sizes) != len(body) - size:
            raise CutOff(
                f"the answer has {len(body) - size:,} bytes of tensors, and says {sum(sizes):,}"
            )

    def read(self, body: bytes, headers: Any) -> Any:
        """The outputs by their names."""
        self.looked_at(body, headers)
        from tritonclient.http import InferenceServerClient

        length = headers.get(_HEADER)
        try:
            found = InferenceServerClient.parse_response_body(
                body, header_length=None if length is None else int(length)
            )
            outputs = found.get_response()["outputs"]
            return {one["name"]: tensor_of(found.as_numpy(one["name"])) for one in outputs}
        except Exception as error:  # noqa: BLE001 - whatever a body makes of its parser
            raise NoAnswer(f"the outputs cannot be read: {error}") from None
