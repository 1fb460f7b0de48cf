"""The command line's way to a running server: its HTTP API, over plain `http.client`.

One request, one answer. Problem documents (RFC 9457) become the error that they stand for, with
the server's own sentence.

Source: RFC 9110 section 15, RFC 9457, RFC 6750 section 2.1.
"""

from __future__ import annotations

import contextlib
import http.client
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, Final
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from ledger.configuration import Address, Configuration
from ledger.errors import CallerError, ConflictError, LedgerError, NotFoundError, TransientError
from vmledger.cli.errors import ServerAwayError
from vmledger.cli.options import find_config, load_config
from vmledger.local_user import local_user

_TIMEOUT_S: Final = 60.0
OPERATOR_TOKEN: Final = "operator.token"  # noqa: S105 - the name of a file


class Answer(msgspec.Struct, frozen=True):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Read the body as JSON; an empty one is None."""
        return msgspec.json.decode(self.body) if self.body else None


class ApiClient:
    """Talks to one server."""

    def __init__(self, url: str, token: str, *, tls: ssl.SSLContext | None = None) -> None:
        try:
            parts = urlsplit(url if "://" in url else f"http://{url}")
            host, port = parts.hostname, parts.port
        except ValueError:  # brackets or a port that cannot be
            host = None
        if not host or parts.scheme not in ("http", "https"):
            raise CallerError(f"{url!r} is not the address of a server; write http://HOST:PORT")
        if not (token.isascii() and token.isprintable()):
            raise CallerError(
                "what was given is no access token: one is a line of letters, digits and '_'; "
                "'vmledger token create' makes one"
            )
        self.url = f"{parts.scheme}://{parts.netloc}"
        self._host, self._port = host, port
        self._is_tls = parts.scheme == "https"
        self._prefix = parts.path.rstrip("/")
        self._token = token
        self._tls = tls

    def get(self, path: str, **query: object) -> Any:
        """GET a JSON document; query values that are None are left out."""
        given = {name: value for name, value in query.items() if value is not None}
        return self.request("GET", f"{path}?{urlencode(given)}" if given else path).json()

    def send(self, method: str, path: str, document: object = None) -> Any:
        """Send a JSON document, and read one."""
        body = msgspec.json.encode(document) if document is not None else b""
        return self.request(method, path, body, {"Content-Type": "application/json"}).json()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | IO[bytes] = b"",
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Make one request.

        Raises ServerAwayError when nobody answers, and the error that a problem document stands
        for: NotFoundError, ConflictError, TransientError or CallerError.
        """
        given = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        if (user := local_user()) is not None and user.isascii():
            given["Vmledger-User"] = user
        try:
            with contextlib.closing(self._connection()) as connection:
                connection.request(method, self._prefix + path, body, given | dict(headers or {}))
                response = connection.getresponse()
                answer = Answer(response.status, dict(response.headers), response.read())
        except (OSError, http.client.HTTPException) as error:
            raise ServerAwayError(
                f"no server answers at {self.url} ({str(error) or type(error).__name__}); "
                "start it with 'vmledger serve', or name another one with --url"
            ) from error
        if answer.status >= 400:
            raise _problem(answer)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        if self._is_tls:
            return http.client.HTTPSConnection(
                self._host, self._port, timeout=_TIMEOUT_S, context=self._tls
            )
        return http.client.HTTPConnection(self._host, self._port, timeout=_TIMEOUT_S)


def connect(config: Path | None, url: str | None, token: str | None) -> ApiClient:
    """Find the server that a command means, and the right to talk to it.

    With both address and token given, no configuration is needed.
    """
    if url and token:
        return ApiClient(url, token)
    path = find_config(config)
    loaded = load_config(path)
    return ApiClient(
        url or local_url(loaded), token or _operator_token(loaded), tls=_own_tls(loaded)
    )


def local_url(config: Configuration) -> str:
    """Give the address at which this machine reaches the API of a configuration."""
    host, port = config.api_address
    # What listens on every address is reached on the loopback one.
    reachable = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared only
    scheme = "https" if config.api_tls else "http"
    return f"{scheme}://{Address(reachable, port)}"


def _own_tls(config: Configuration) -> ssl.SSLContext | None:
    """Trust the certificate that the configuration names, whoever signed it."""
    if config.api_tls is None:
        return None
    context = ssl.create_default_context()
    context.load_verify_locations(config.api_tls.certificate)
    return context


def _operator_token(config: Configuration) -> str:
    path = config.data / OPERATOR_TOKEN
    try:
        return path.read_text("ascii", errors="replace").strip()
    except FileNotFoundError:
        raise CallerError(
            f"there is no token in {path}; give one with --token or $VMLEDGER_TOKEN, "
            "or run the command as the server's own user after its first start"
        ) from None
    except PermissionError:
        raise CallerError(
            f"{path} is not readable for this user; run the command as the server's own user, "
            "or give a token with --token or $VMLEDGER_TOKEN"
        ) from None


def _problem(answer: Answer) -> LedgerError:
    sentence = _sentence(answer)
    match answer.status:
        case 404:
            return NotFoundError(sentence)
        case 409 | 410 | 421:
            return ConflictError(sentence)
        case status if status >= 500 or status == 429:
            retry_after = answer.headers.get("retry-after", "1")
            return TransientError(
                sentence, retry_after_s=float(retry_after) if retry_after.isdigit() else 1.0
            )
    return CallerError(sentence)


def _sentence(answer: Answer) -> str:
    """Say what the problem document says, or at least the status."""
    try:
        problem = answer.json()
    except msgspec.DecodeError:
        problem = None
    if not isinstance(problem, dict):
        return f"the server answered with status {answer.status}"
    parts = [problem.get("detail") or problem.get("title")]
    wrong = [f"{e.get('field')}: {e.get('message')}" for e in problem.get("errors") or ()]
    said = [str(part).rstrip(".") for part in (*parts, *wrong, problem.get("remedy")) if part]
    return "; ".join(dict.fromkeys(said)) or f"the server answered with status {answer.status}"


def path_of(*segments: object) -> str:
    """Join an API path; every segment is quoted, so that no name can leave its place."""
    return "/v1/" + "/".join(quote(str(segment), safe="") for segment in segments)
