"""The errors of Scoreline: the root of all packages, and what the client raises.

ScorelineError
├── ArtifactError            the root of what artifacts raise, see scoreline_artifacts.errors
├── WireError                bytes do not follow the wire format, see protocol.messages
├── SettingsError            an environment variable or argument is unusable
├── MissingDependency        a feature needs a package that is not installed
├── ServerUnreachable        Redis does not answer
│   ├── ServerRefused        Redis answers, and refuses user, password, database or command
│   └── UntrustedServer      its TLS certificate is not what it should be
├── ServerTooOld             Redis is older than what Scoreline needs
├── QueueFull                the queue takes no more requests now
├── NotReplicated            a job is queued, but not on as many replicas as it should be
├── NoAnswer                 no worker answered in time
├── RequestRefused           the request as a whole cannot be scored
│   ├── UnknownModel
│   ├── PayloadTooLarge
│   ├── EmptyRequest
│   ├── RequestExpired       its time was up before a worker could score it
│   │   └── ExpiredUnanswered  the same while its caller waited: a NoAnswer, too
│   └── JobCancelled
├── RecordRejected           one record cannot be scored
├── JobLost                  the server knows nothing (more) of a job
├── DeadLetterUnusable       a dead letter is not there, or cannot be sent again
└── FileRefused              a file cannot be scored as a whole, or not to its end
    └── TooManyErrors
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scoreline_client.codes import Code
from scoreline_client.shown import shown_name, shown_text, without_secrets


class ScorelineError(Exception):
    """The root of everything that Scoreline raises."""

    exit_status = 2
    """The exit code of the `scoreline` program after this error."""

    def __str__(self) -> str:
        return shown_text(super().__str__())


class SettingsError(ScorelineError, ValueError):
    """Raised when an environment variable or an argument has an unusable value."""

    def __init__(self, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name} is {value!r}; expected {expected}")
        self.name = name
        self.value = value
        self.expected = expected
        self.excluded: tuple[str, ...] = ()
        """Options that were given together and exclude each other."""

    @classmethod
    def excluding(cls, options: Sequence[str]) -> SettingsError:
        """The error of options that cannot be given together, by their names; it speaks of their flags."""
        error = cls(options[0], True, f"it without {' and '.join(options[1:])}")
        flags = [f"--{name.replace('_', '-')}" for name in options]
        error.args = (f"{' and '.join(flags)} exclude each other: give one of them",)
        error.excluded = tuple(options)
        return error


class MissingDependency(ScorelineError, ImportError):
    """Raised when a feature needs a package that is not installed; also by the import of a module that needs one."""

    def __init__(self, feature: str, package: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs {package}, which is not installed: pip install 'scoreline[{extra}]'",
            name=package,
        )
        self.feature = feature
        self.package = package
        self.extra = extra


class ServerUnreachable(ScorelineError):
    """Raised when the Redis server cannot be reached or stops answering.

    Nothing was accepted, unless `request_id` is set. Asking again is safe in both cases: a prediction that is
    asked for twice is only scored twice, and a job that is submitted again under its id is queued once.
    """

    exit_status = 3

    def __init__(self, url: str, reason: str, request_id: str | None = None) -> None:
        super().__init__(
            f"cannot reach Redis at {url}: {reason.rstrip('.')}. "
            + (
                f"Request {request_id} may have been accepted all the same; it may be sent again."
                if request_id
                else "Is it running, and does SCORELINE_REDIS_URL point at it? "
                "(`scoreline up` starts one for development.)"
            )
        )
        self.url = url
        self.reason = reason
        self.request_id = request_id
        """The id of a request that may have been accepted: its reply got lost. None if nothing was accepted."""


class ServerTooOld(ScorelineError):
    """Raised when the server is of a release that lacks commands which Scoreline needs."""

    def __init__(self, server: str, oldest: str) -> None:
        super().__init__(
            f"the server is {server}, and Scoreline needs Redis {oldest} or newer, or Valkey. "
            "(`scoreline up` starts one that fits.)"
        )
        self.server = server
        self.oldest = oldest


class UntrustedServer(ServerUnreachable):
    """Raised when the server's TLS certificate is for another name, out of date, or signed by no trusted authority.

    Nothing was sent to it, the password least of all.
    """

    def __init__(self, url: str, reason: str) -> None:
        ScorelineError.__init__(
            self,
            f"the server at {url} is not trusted, and nothing was sent to it: {reason.rstrip('.')}. "
            "`?ssl_ca_certs=/PATH/ca.pem` in SCORELINE_REDIS_URL names the authority that signed its certificate.",
        )
        self.url = url
        self.reason = reason
        self.request_id = None


class ServerRefused(ServerUnreachable):
    """Raised when the server was reached, and refuses the user, the password, the database or a command.

    Trying again does not help: the URL or the user's rights have to be changed.
    """

    def __init__(self, url: str, reason: str) -> None:
        ScorelineError.__init__(self, f"Redis at {url} {reason}")
        self.url = url
        self.reason = reason
        self.request_id = None


class QueueFull(ScorelineError):
    """Raised when the queue takes no more requests; nothing of the request was accepted.

    Ask again after `retry_after_s`.
    """

    exit_status = 3

    def __init__(self, queue: str, reason: str, retry_after_s: float, room: int = 0) -> None:
        super().__init__(
            f"queue {queue!r} takes no more requests: {reason}. "
            f"Try again in {retry_after_s:g} s, or start more workers."
        )
        self.queue = queue
        self.reason = reason
        self.retry_after_s = retry_after_s
        self.room = room
        """How many callers the queue still has room for, where a request of more callers was refused."""


class NotReplicated(ScorelineError):
    """Raised when a job was accepted, but in time by fewer replicas than SCORELINE_DURABLE_REPLICAS asks for.

    The job is queued and will be scored, unless the primary is lost before its replicas have it. Submitting it
    again under its id is safe.
    """

    exit_status = 3

    def __init__(self, job_id: str, replicas: int, wanted: int) -> None:
        super().__init__(
            f"job {job_id} is queued, and {replicas} of {wanted} replicas have it "
            "(SCORELINE_DURABLE_REPLICAS): it is lost if the primary is lost now. It may be submitted again "
            "under this id."
        )
        self.job_id = job_id
        self.replicas = replicas
        self.wanted = wanted


class NoAnswer(ScorelineError, TimeoutError):
    """Raised when no answer came in time; the request may still be scored until it expires."""

    exit_status = 3

    def __init__(self, request_id: str, timeout_s: float, diagnosis: str) -> None:
        super().__init__(f"no answer to request {request_id} within {timeout_s:g} s: {diagnosis}")
        self.request_id = request_id
        self.timeout_s = timeout_s
        self.diagnosis = diagnosis


class RequestRefused(ScorelineError):
    """Raised when a request as a whole cannot be scored."""

    def __init__(self, code: Code | str, message: str, column: str | None = None) -> None:
        super().__init__(message)
        self.code = str(code)
        self.message = message
        self.column = column


class UnknownModel(RequestRefused):
    """Raised when no such model, alias or version is in the artifact store."""


class PayloadTooLarge(RequestRefused):
    """Raised when a request is larger than the limit."""


class EmptyRequest(RequestRefused):
    """Raised when a request holds no records."""


class RequestExpired(RequestRefused):
    """Raised when the request's time was up before a worker could score it: nothing was scored."""


class ExpiredUnanswered(RequestExpired, NoAnswer):
    """Raised when a request's time was up in the queue while its caller waited, and a worker said so first.

    To such a caller it is one matter with NoAnswer, which the client raises by itself a moment later.
    """

    def __init__(self, request_id: str, message: str) -> None:
        ScorelineError.__init__(self, message)
        self.code = str(Code.EXPIRED)
        self.message = self.diagnosis = message
        self.column = None
        self.request_id = request_id
        # The message says how long it was; of several callers who share a request, each has a timeout of its own.
        self.timeout_s = math.nan


class JobCancelled(RequestRefused):
    """Raised when the result of a cancelled job is asked for."""


class RecordRejected(ScorelineError):
    """Raised when the record of a `predict` cannot be scored."""

    exit_status = 1

    def __init__(
        self, code: Code | str, message: str, column: str | None = None, value: str | None = None
    ) -> None:
        super().__init__(message)
        self.code = str(code)
        self.message = message
        self.column = column
        self.value = value


class JobLost(ScorelineError):
    """Raised when the server knows nothing of a job: its time to live is over, or data was lost."""

    def __init__(self, job_id: str) -> None:
        super().__init__(
            f"the server knows nothing of job {job_id}: its result's time to live is over, "
            "it was submitted to another queue, or the server lost its data. Submit it again."
        )
        self.job_id = job_id


class DeadLetterUnusable(ScorelineError):
    """Raised when a dead letter is not there (any more), or cannot be sent again."""

    def __init__(self, letter_id: str, reason: str) -> None:
        super().__init__(f"dead letter {letter_id!r} cannot be used: {reason}")
        self.letter_id = letter_id
        self.reason = reason


class FileRefused(ScorelineError):
    """Raised when a file cannot be scored to its end; no output stands under its name.

    What was scored until then is kept beside the output's name, for a run that is resumed.
    """

    def __init__(
        self, code: Code | str, path: str, message: str, column: str | None = None
    ) -> None:
        # A URL may hold a password or a token; a library's error may quote it.
        self.path = shown_name(path)
        self.message = without_secrets(message, path)
        super().__init__(f"{shown_text(self.path, in_line=True)}: {self.message}")
        self.code = str(code)
        self.column = column


class TooManyErrors(FileRefused):
    """Raised when more rows of a file are rejected than `max_errors` allows."""

    def __init__(self, path: str, rejected: int, rows: int, limit: str, report: str) -> None:
        message = (
            f"{rejected:,} of the first {rows:,} rows were rejected, more than {limit} "
            f"(max_errors). {report}"
        )
        super().__init__(Code.TOO_MANY_ERRORS, path, message)
        self.rejected = rejected
        self.rows = rows
        self.limit = limit


_BY_CODE: dict[str, type[RequestRefused]] = {
    Code.UNKNOWN_MODEL: UnknownModel,
    Code.TOO_LARGE: PayloadTooLarge,
    Code.EMPTY_REQUEST: EmptyRequest,
    Code.EXPIRED: RequestExpired,
    Code.CANCELLED: JobCancelled,
}


def refusal(code: str, message: str, column: str | None = None) -> RequestRefused:
    """The exception for the error of an answer that refuses its request."""
    return _BY_CODE.get(code, RequestRefused)(code, message, column)
