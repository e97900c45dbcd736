"""Serving a module: what it must define for that, and a callback that serves it once before training."""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, HTTPServer
from multiprocessing import Process
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .callbacks import Callback
from .errors import MisconfigurationException, rank_zero_info
from .strategies import DeepSpeedStrategy, FSDPStrategy

if TYPE_CHECKING:
    from .module import LightningModule
    from .trainer import Trainer

__all__ = ["ServableModule", "ServableModuleValidator"]


class ServableModule(ABC, torch.nn.Module):
    """What a module defines to be served."""

    @abstractmethod
    def configure_payload(self) -> dict[str, Any]:
        """An example of a request: ``{"body": {argument of serve_step: its JSON form}}``."""

    @abstractmethod
    def configure_serialization(self) -> tuple[dict[str, Callable[[Any], Any]], dict[str, Callable[[Any], Any]]]:
        """Functions from JSON for each argument of `serve_step`, and to JSON for each of its outputs."""

    @abstractmethod
    def serve_step(self, *args: Tensor, **kwargs: Tensor) -> dict[str, Tensor]:
        """Answers a request."""

    @abstractmethod
    def configure_response(self) -> dict[str, Any]:
        """The answer that `configure_payload` must get."""


@dataclass(frozen=True)
class Response:
    """An answer over HTTP."""

    status_code: int
    text: str

    def json(self) -> Any:
        return json.loads(self.text)


class ServableModuleValidator(Callback):
    """Serves the module in a process of its own as training starts, and asks for the example's answer.

    The server is Python's own, so that nothing has to be installed; a service speaks JSON in the same way.

    Args:
        optimization: Not supported; None.
        server: Kept for scripts that name it.
        host: Where to listen.
        port: Where to listen.
        timeout: Seconds to wait for the server.
        exit_on_failure: Whether an answer other than 200 ends the run.
    """

    def __init__(
        self,
        optimization: str | None = None,
        server: str = "fastapi",
        host: str = "127.0.0.1",
        port: int = 8080,
        timeout: int = 20,
        exit_on_failure: bool = True,
    ) -> None:
        if optimization is not None:
            raise NotImplementedError(f"The optimization {optimization} is currently not supported.")
        if server != "fastapi":
            raise NotImplementedError("Only the fastapi server is currently supported.")
        self.optimization = optimization
        self.server = server
        self.host = host
        self.port = port
        self.timeout = timeout
        self.exit_on_failure = exit_on_failure
        self.resp: Response | None = None

    @property
    def successful(self) -> bool | None:
        """Whether the module was served; None before it was tried."""
        return None if self.resp is None else self.resp.status_code == 200

    def state_dict(self) -> dict[str, Any]:
        return {"successful": self.successful, "optimization": self.optimization, "server": self.server}

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if isinstance(trainer.strategy, (DeepSpeedStrategy, FSDPStrategy)):
            raise MisconfigurationException(
                f"The current strategy {type(trainer.strategy).__qualname__} used by the trainer isn't supported for"
                " sanity serving yet."
            )
        if not isinstance(pl_module, ServableModule):
            raise TypeError(f"The provided model should be subclass of {ServableModule.__qualname__}.")
        if trainer.is_global_zero:
            self._validate(trainer, pl_module)

    def _validate(self, trainer: Trainer, module: Any) -> None:
        payload = module.configure_payload()
        if "body" not in payload:
            raise MisconfigurationException(f'Your provided payload {payload} should have a field named "body".')
        module.trainer = None  # the process gets a copy of the module, not of the run
        process = Process(target=_serve, args=(module, self.host, self.port))
        process.start()
        module.trainer = trainer
        try:
            self._wait()
            self.resp = self._ask("serve", payload)
        finally:
            process.kill()
            process.join()
        if self.successful:
            wanted = module.configure_response()
            if wanted and self.resp.json() != wanted:
                raise MisconfigurationException(
                    f"The expected response {wanted} doesn't match the generated one {self.resp.json()}."
                )
            rank_zero_info(f"Your model is servable and the received payload was {self.resp.json()}.")
        elif self.exit_on_failure:
            raise MisconfigurationException(f"The model isn't servable: {self.resp.text}")

    def _wait(self) -> None:
        deadline = time.monotonic() + self.timeout
        while True:
            try:
                self._ask("ping")
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"The server didn't start within {self.timeout} seconds.") from None
                time.sleep(0.05)

    def _ask(self, page: str, payload: Any = None) -> Response:
        data = None if payload is None else json.dumps(payload).encode()
        request = urllib.request.Request(f"http://{self.host}:{self.port}/{page}", data)
        try:
            with urllib.request.urlopen(request, timeout=self.timeout) as answer:
                return Response(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            return Response(error.code, error.read().decode())


def _serve(module: Any, host: str, port: int) -> None:
    """Answers ``/ping`` and ``/serve`` until the process is ended."""
    read, write = module.configure_serialization()
    module.eval()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self._send(200, True)

        def do_POST(self) -> None:
            try:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["body"]
                arguments = {name: read[name](value) if name in read else value for name, value in body.items()}
                with torch.no_grad():
                    output = module.serve_step(**arguments)
                if not isinstance(output, dict):
                    raise TypeError(f"`serve_step` should return a dictionary. Found {output}")
                answer = {name: write[name](value) if name in write else value for name, value in output.items()}
            except Exception as error:  # the request's failure, whatever it is, is the answer
                self._send(500, f"{type(error).__name__}: {error}")
            else:
                self._send(200, answer)

        def _send(self, status: int, content: Any) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(content).encode())

        def log_message(self, format: str, *args: Any) -> None:
            """Keeps requests off the terminal."""

    HTTPServer((host, port), Handler).serve_forever()
