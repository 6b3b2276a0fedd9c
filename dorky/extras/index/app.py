"""The Simple Repository API over HTTP, as an application of WSGI."""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from http import HTTPStatus
from typing import IO, Any, NamedTuple
from urllib.parse import quote

from werkzeug.wrappers import Request, Response

from dorky import errors
from dorky.extras.index import answers, negotiation, pages, routes, signatures
from dorky.extras.index.answers import Refusal
from dorky.extras.index.auth import Access, Caller, Failures, token_in
from dorky.extras.index.depot import Project
from dorky.extras.index.names import normalized
from dorky.extras.index.negotiation import Choice
from dorky.extras.index.operations import Log, Metrics
from dorky.extras.index.records import Entry
from dorky.extras.index.routes import Route
from dorky.extras.index.state import Kept, Newest, View
from dorky.extras.index.uploads import Done, Uploads
from dorky.extras.index.upstream import Upstream

_BLOCK = 1 << 20
_MOMENT = 1.0
"""The seconds for which a state is new enough to say that it lacks a project."""
_STALE = 120.0
_PAGES, _PROJECTS, _METADATA = 64 << 20, 64 << 20, 32 << 20
_READING = frozenset({"GET", "HEAD"})
_ANYBODY = frozenset({"health", "ready", "robots"})
_NOBODY = Caller("", may_write=True)
_COMMON = {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


class Options(NamedTuple):
    """What a server may do, and for whom.

    Attributes:
        hosts: The names by which browsers may call it; empty: any.
        stale: The seconds after which a state that could not be renewed is not ready any more.
        throttled: Whether an address with many failed logins is refused for a while.
    """

    hosts: frozenset[str] = frozenset()
    stale: float = _STALE
    throttled: bool = True


_USUAL = Options()
_PLACES = {
    "POST": "a form is sent to /python/legacy/",
    "PUT": "a file is put at /python/PROJECT/FILE",
}
_NOTHING = "there is nothing here: the index is /python/simple/"


class App:
    """The application.

    Args:
        state: The packages.
        uploads: Takes uploads; None if there are none to be.
        access: The tokens; None if everybody may do everything.
        upstream: Where projects that are not here come from; None: nowhere.
        log: The log.
        metrics: The metrics.
        options: The rest.
    """

    def __init__(
        self,
        state: Newest,
        *,
        uploads: Uploads | None = None,
        access: Access | None = None,
        upstream: Upstream | None = None,
        log: Log,
        metrics: Metrics,
        options: Options = _USUAL,
    ) -> None:
        self.access = access
        self._state = state
        self._uploads = uploads
        self._upstream = upstream
        self._log = log
        self._metrics = metrics
        self._options = options
        self._failures = Failures()
        self._etags: Kept[str] = Kept(100_000)
        self._pages: Kept[bytes] = Kept(_PAGES)
        self._projects: Kept[Project] = Kept(_PROJECTS)
        self._metadata: Kept[bytes] = Kept(_METADATA)

    def __call__(
        self, environ: dict[str, Any], start_response: Callable[..., Any]
    ) -> Iterable[bytes]:
        """Answer a request."""
        began = time.monotonic()
        request = Request(environ)
        route = routes.find(request.path)
        caller: list[Caller] = []
        try:
            answer = self._answer(request, route, caller)
        except Exception as error:  # noqa: BLE001 - the border
            answer = self._refused(error)
        answer.headers.extend(_COMMON)
        told = _Told(self, request, route, answer, caller[0].name if caller else "", began)
        answer.response = told.counted(answer.response)
        answer.call_on_close(told.end)
        return answer(environ, start_response)

    def _refused(self, error: Exception) -> Response:
        if isinstance(error, Refusal):
            refused = error
        elif isinstance(error, OSError):  # of the temporary file of an upload, for example
            self._log.error(f"{type(error).__name__}: {error.strerror}")
            refused = Refusal(507, "the server's disk has failed")
        elif isinstance(error, errors.DorkyError):
            refused = answers.refusal(error)
            if refused.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
                self._log.error(f"{error.code}: {error.message}")
        else:
            # Its text may hold anything, such as a part of the request.
            self._log.error(f"bug: {type(error).__name__} at {_place(error)}")
            refused = Refusal(500, "the server has failed")
        return answers.text(refused.status, refused.reason, refused.headers)

    # --- who may -----------------------------------------------------------------------------

    def _admit(self, request: Request, route: Route) -> Caller:
        """Return who asks, if that is allowed.

        Raises:
            Refusal: It is not.
        """
        hosts = self._options.hosts
        if hosts and request.host.rpartition(":")[0] not in hosts and request.host not in hosts:
            raise Refusal(421, "this server is only for its own machine")
        if route.kind in _ANYBODY or self.access is None:
            return _NOBODY
        address = request.remote_addr or ""
        if self._options.throttled and (wait := self._failures.wait(address)):
            raise Refusal(429, "too many failed logins", {"Retry-After": str(wait)})
        asked = {"WWW-Authenticate": 'Basic realm="dorky", charset="UTF-8"'}
        header = request.headers.get("Authorization", "")
        if not header:
            raise Refusal(401, "a token is needed, as the password", asked)
        token = token_in(header)
        caller = self.access.caller(token) if token else None
        if caller is None:
            self._failures.note(address)
            self._metrics.add("failed_logins_total")
            raise Refusal(401, "the token is not valid", asked)
        return caller

    def _answer(self, request: Request, route: Route, told: list[Caller]) -> Response:
        caller = self._admit(request, route)
        told.append(caller)
        if request.method in _READING:
            return self._read(request, route)
        if route.kind == "nothing":
            raise Refusal(404, _NOTHING)
        writes = {"POST": {"legacy"}, "PUT": {"file", "record"}}.get(request.method, set())
        if route.kind not in writes or self._uploads is None:
            reason = _PLACES.get(request.method, "not here")
            if self._uploads is None and request.method in _PLACES:
                reason = "this server is read-only"
            raise Refusal(405, reason, {"Allow": self._allowed(route)})
        if not caller.may_write:
            raise Refusal(403, "the token is only for reading")
        if "Origin" in request.headers:  # a page of another site, in the browser of a user
            raise Refusal(403, "browsers can't upload")
        return self._write(request, route, self._uploads)

    def _allowed(self, route: Route) -> str:
        writes = {"legacy": ["POST"], "file": ["PUT"], "record": ["PUT"]}.get(route.kind, [])
        reads = [] if route.kind == "legacy" else ["GET", "HEAD"]
        return ", ".join(reads + (writes if self._uploads else [])) or "GET, HEAD"

    # --- uploads -----------------------------------------------------------------------------

    def _write(self, request: Request, route: Route, uploads: Uploads) -> Response:
        try:
            done = self._upload(request, route, uploads)
        except (Refusal, errors.DorkyError):
            self._metrics.add("uploads_total", outcome="refused")
            raise
        self._metrics.add(
            "uploads_total", outcome={200: "known", 201: "added"}.get(done.status, "held")
        )
        with contextlib.suppress(errors.DorkyError):  # it is there, whatever can be seen now
            self._state.since(time.monotonic())
        return answers.text(done.status, done.words)

    def _upload(self, request: Request, route: Route, uploads: Uploads) -> Done:
        if route.kind == "legacy":
            return uploads.form(request.environ)
        if route.kind == "record":
            return uploads.record(route.project, route.filename, request)
        return uploads.file(route.project, route.filename, request)

    # --- pages and files ---------------------------------------------------------------------

    def _read(self, request: Request, route: Route) -> Response:
        if route.kind in {"health", "ready", "metrics", "robots"}:
            return self._operate(route)
        if route.kind == "projects":
            if not request.path.endswith("/"):
                return answers.redirection("simple/")
            return self._list(request)
        if route.kind == "legacy":
            raise Refusal(405, "uploads are sent by POST", {"Allow": self._allowed(route)})
        if route.kind in {"nothing", "record"}:
            raise Refusal(404, _NOTHING)
        try:
            name = normalized(route.project)
        except errors.BadPackage:
            raise Refusal(404, "it is no project's name") from None
        if elsewhere := _elsewhere(request.path, route, name):
            return answers.redirection(elsewhere)
        if route.kind == "project":
            return self._page(request, name)
        return self._file(request, route, name)

    def _operate(self, route: Route) -> Response:
        if route.kind == "robots":
            return Response("User-agent: *\nDisallow: /\n", content_type="text/plain")
        if route.kind == "metrics":
            text = self._metrics.text(root_age=self._state.age)
            return Response(text, content_type="text/plain; version=0.0.4; charset=utf-8")
        if route.kind == "ready":
            self._state.view()
            age = self._state.age
            if age > self._options.stale:
                raise Refusal(503, f"the newest state is {age:.0f} seconds old")
            return answers.text(200, f"ready: the newest state is {age:.0f} seconds old")
        return answers.text(200, "healthy")

    def _list(self, request: Request) -> Response:
        choice = _choice(request)
        view = self._state.view()
        held = self._pages.get((view.version, choice)) if view.version else None
        names = [] if held else view.depot.projects()
        page = held or (
            pages.project_list(names) if choice.format == "json" else pages.project_list_html(names)
        )
        if view.version:
            self._pages.put((view.version, choice), page, len(page))
        return _paged(request, choice, page, hashlib.sha256(page).hexdigest()[:32])

    def _etag(self, view: View, name: str) -> str:
        """Return the text that changes when a project does; nothing is opened for it.

        Raises:
            NoSuchPackage: There is no such project.
        """
        held = self._etags.get((view.version, name)) if view.version else None
        return held or self._etags.put((view.version, name), view.depot.etag(name), 1)

    def _find(self, name: str) -> tuple[View, str] | None:
        """Return the state that holds a project, and its entity tag; None if there is none.

        For an unknown name the state is renewed, at most once a second.
        """
        view = self._state.view()
        try:
            return view, self._etag(view, name)
        except errors.NoSuchPackage:
            newer = self._state.since(time.monotonic() - _MOMENT)
            if newer is view:
                return None
        try:
            return newer, self._etag(newer, name)
        except errors.NoSuchPackage:
            return None

    def _project(self, view: View, name: str, etag: str) -> Project:
        held = self._projects.get((name, etag))
        if held:
            return held
        made = view.depot.project(name)
        return self._projects.put((name, made.etag), made, 1000 * (1 + len(made.files)))

    def _page(self, request: Request, name: str) -> Response:
        choice = _choice(request)
        found = self._find(name)
        if found is None:
            return self._foreign(request, choice, name)
        view, etag = found
        if _unchanged(request, _tag(etag, choice)):
            return _paged(request, choice, b"", etag)
        page = self._pages.get((name, etag, choice))
        if page is None:
            project = self._project(view, name, etag)
            make = pages.project_page if choice.format == "json" else pages.project_page_html
            page, etag = make(project, _address), project.etag
            self._pages.put((name, etag, choice), page, len(page))
        return _paged(request, choice, page, etag)

    def _foreign(self, request: Request, choice: Choice, name: str) -> Response:
        """Return the page that the upstream has of a project that is not here.

        One of a group that the server is not in may be here: it is not asked for outside, either.
        """
        page = None
        if self._upstream and not self._state.view().depot.is_closed(name):
            page = self._upstream.page(name, choice.format)
        if page is None:
            raise Refusal(404, f"there is no {name} here")
        return _paged(request, choice, page, hashlib.sha256(page).hexdigest()[:32])

    def _file(self, request: Request, route: Route, name: str) -> Response:
        found = self._find(name)
        project = self._project(found[0], name, found[1]) if found else None
        offered = pages.offered(project) if project else ()
        entry = next((entry for entry in offered if entry.filename == route.filename), None)
        if not found or not entry:
            raise Refusal(404, f"there is no {route.filename} here")
        if route.kind == "metadata":
            return self._metadata_of(request, found[0], entry)
        if route.kind == "signature":
            return self._signature_of(request, found[0], entry, route.ending)
        tag = entry.sha256
        headers = {"ETag": f'"{tag}"', "Accept-Ranges": "bytes", "Cache-Control": self._immutable}
        if _unchanged(request, tag):
            return Response(status=304, headers=headers)
        try:
            wanted, condition = (request.headers.get(h, "") for h in ("Range", "If-Range"))
            wanted = wanted if request.method == "GET" else ""
            part = negotiation.span(wanted, condition, tag, entry.size)
        except negotiation.Unsatisfiable:
            beyond = {"Content-Range": f"bytes */{entry.size}"}
            raise Refusal(416, "the file is shorter", beyond) from None
        start, end = part or (0, entry.size)
        headers["Content-Length"] = str(end - start)
        if part:
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{entry.size}"
        answer = Response(
            status=206 if part else 200, headers=headers, content_type="application/octet-stream"
        )
        if request.method == "GET":
            opened = found[0].depot.open(entry.filename)
            whole = None if part else opened.blocks
            answer.response = whole or _blocks(opened.file, start, end)
            answer.call_on_close(opened.file.close)
        return answer

    def _metadata_of(self, request: Request, view: View, entry: Entry) -> Response:
        digest = entry.core_metadata.get("sha256", "")
        if not digest:
            raise Refusal(404, f"resolvers can't rely on the metadata of {entry.filename}")
        headers = {"ETag": f'"{digest}"', "Cache-Control": self._immutable}
        if _unchanged(request, digest):
            return Response(status=304, headers=headers)
        body = self._metadata.get(digest)
        if body is None:
            body = view.depot.metadata(entry.filename)
            self._metadata.put(digest, body, len(body))
        return Response(body, headers=headers, content_type="text/plain; charset=utf-8")

    def _signature_of(self, request: Request, view: View, entry: Entry, ending: str) -> Response:
        shown = signatures.shown(view.depot.bundles(entry.filename), ending)
        if shown is None:
            raise Refusal(404, f"no signature of {entry.filename} can be shown so")
        tag = hashlib.sha256(shown.body).hexdigest()
        headers = {"ETag": f'"{tag}"', "Cache-Control": "no-cache"}
        if _unchanged(request, tag):
            return Response(status=304, headers=headers)
        return Response(shown.body, headers=headers, content_type=shown.content_type)

    @property
    def _immutable(self) -> str:
        who = "public" if self.access is None else "private"
        return f"{who}, max-age=31536000, immutable"

    def tell(self, request: Request, route: Route, answer: Response, **fields: Any) -> None:
        """Log and count a request that was answered."""
        self._metrics.add("requests_total", kind=route.kind, status=answer.status_code)
        self._metrics.add("request_seconds_total", fields["seconds"])
        self._metrics.add("sent_bytes_total", fields["bytes"])
        self._log.request(
            address=request.remote_addr or "",
            method=request.method[:10],
            path=request.path[:500],
            status=answer.status_code,
            agent=request.headers.get("User-Agent", "")[:200],
            **fields,
        )


class _Told:
    """Counts what is sent of an answer, and tells of it at the end."""

    def __init__(
        self, app: App, request: Request, route: Route, answer: Response, caller: str, began: float
    ) -> None:
        self._app, self._request, self._route, self._answer = app, request, route, answer
        self._caller = caller
        self._began = began
        self._sent = 0

    def counted(self, blocks: Any) -> Iterator[bytes]:
        for block in blocks:
            self._sent += len(block)
            yield block

    def end(self) -> None:
        seconds = round(time.monotonic() - self._began, 4)
        told = {"bytes": self._sent, "seconds": seconds, "caller": self._caller}
        self._app.tell(self._request, self._route, self._answer, **told)


def _place(error: BaseException) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_name}:{trace.tb_lineno}" if trace else "?"


def _choice(request: Request) -> Choice:
    choice = negotiation.choose(request.headers.get("Accept", ""))
    if choice is None:
        offers = f"{negotiation.JSON}, {negotiation.HTML} or text/html"
        raise Refusal(406, f"the page is there as {offers}", {"Vary": "Accept"})
    return choice


def _tag(etag: str, choice: Choice) -> str:
    kind = {negotiation.JSON: "j", negotiation.HTML: "h"}.get(choice.content_type, "t")
    return f"{etag}-{kind}"


def _unchanged(request: Request, tag: str) -> bool:
    return request.if_none_match.contains_weak(tag)


def _paged(request: Request, choice: Choice, page: bytes, etag: str) -> Response:
    tag = _tag(etag, choice)
    headers = {"ETag": f'"{tag}"', "Vary": "Accept", "Cache-Control": "no-cache"}
    if _unchanged(request, tag):
        return Response(status=304, headers=headers)
    if choice.format == "html":
        headers["Content-Security-Policy"] = "default-src 'none'"
    return Response(page, headers=headers, content_type=choice.content_type)


def _elsewhere(path: str, route: Route, name: str) -> str:
    """Return where a thing is, relative to a path at which it is not; empty if it is there."""
    if route.kind == "project":
        if not route.simple:
            return f"{'../' if path.endswith('/') else ''}simple/{name}/"
        if not path.endswith("/"):
            return f"{name}/"
        return f"../{name}/" if route.project != name else ""
    if route.project == name:
        return ""
    return f"../{name}/{quote(path.rpartition('/')[2])}"


def _address(entry: Entry) -> str:
    return quote(entry.filename)


def _blocks(file: IO[bytes], start: int, end: int) -> Iterator[bytes]:
    file.seek(start)
    left = end - start
    while left > 0:
        block = file.read(min(left, _BLOCK))
        if not block:  # the connection is ended, and the client sees that something lacks
            raise errors.BadRecord("a file", "it is shorter than its record tells")
        left -= len(block)
        yield block
