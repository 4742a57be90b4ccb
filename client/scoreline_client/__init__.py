"""The client, for applications that need predictions: `Client().predict("pima", {"preg": 6, …})`.

Its names are imported when they are first asked for, so that a command starts with what it needs.
"""

import importlib
import typing

if typing.TYPE_CHECKING:
    from scoreline_client.async_client import AsyncClient
    from scoreline_client.client import Client
    from scoreline_client.codes import Code, WarningCode
    from scoreline_client.dead_letters import DeadLetter
    from scoreline_client.descriptions import ModelDescription
    from scoreline_client.errors import (
        DeadLetterUnusable,
        EmptyRequest,
        FileRefused,
        JobCancelled,
        JobLost,
        MissingDependency,
        NoAnswer,
        NotReplicated,
        PayloadTooLarge,
        QueueFull,
        RecordRejected,
        RequestExpired,
        RequestRefused,
        ScorelineError,
        ServerRefused,
        ServerTooOld,
        ServerUnreachable,
        SettingsError,
        TooManyErrors,
        UnknownModel,
    )
    from scoreline_client.files.chunks import ScoredRow
    from scoreline_client.files.profile import FileReport
    from scoreline_client.files.run import BulkProgress, ScoreSummary
    from scoreline_client.jobs import AsyncJob, Job, JobStatus
    from scoreline_client.options import BulkOptions, MaxErrors, Policy, RequestOptions
    from scoreline_client.predictions import Prediction, RecordError, RecordWarning
    from scoreline_client.service import ServiceStatus
    from scoreline_client.settings import ClientSettings

__all__ = [
    "AsyncClient",
    "AsyncJob",
    "BulkOptions",
    "BulkProgress",
    "Client",
    "ClientSettings",
    "Code",
    "DeadLetter",
    "DeadLetterUnusable",
    "EmptyRequest",
    "FileRefused",
    "FileReport",
    "Job",
    "JobCancelled",
    "JobLost",
    "JobStatus",
    "MaxErrors",
    "MissingDependency",
    "ModelDescription",
    "NoAnswer",
    "NotReplicated",
    "PayloadTooLarge",
    "Policy",
    "Prediction",
    "QueueFull",
    "RecordError",
    "RecordRejected",
    "RecordWarning",
    "RequestExpired",
    "RequestOptions",
    "RequestRefused",
    "ScoreSummary",
    "ScoredRow",
    "ScorelineError",
    "ServerRefused",
    "ServerTooOld",
    "ServerUnreachable",
    "ServiceStatus",
    "SettingsError",
    "TooManyErrors",
    "UnknownModel",
    "WarningCode",
]

_FROM = {
    "AsyncClient": "async_client",
    "Client": "client",
    "Code": "codes",
    "WarningCode": "codes",
    "DeadLetter": "dead_letters",
    "ModelDescription": "descriptions",
    "DeadLetterUnusable": "errors",
    "EmptyRequest": "errors",
    "FileRefused": "errors",
    "JobCancelled": "errors",
    "JobLost": "errors",
    "MissingDependency": "errors",
    "NoAnswer": "errors",
    "NotReplicated": "errors",
    "PayloadTooLarge": "errors",
    "QueueFull": "errors",
    "RecordRejected": "errors",
    "RequestExpired": "errors",
    "RequestRefused": "errors",
    "ScorelineError": "errors",
    "ServerRefused": "errors",
    "ServerTooOld": "errors",
    "ServerUnreachable": "errors",
    "SettingsError": "errors",
    "TooManyErrors": "errors",
    "UnknownModel": "errors",
    "ScoredRow": "files.chunks",
    "FileReport": "files.profile",
    "BulkProgress": "files.run",
    "ScoreSummary": "files.run",
    "AsyncJob": "jobs",
    "Job": "jobs",
    "JobStatus": "jobs",
    "BulkOptions": "options",
    "MaxErrors": "options",
    "Policy": "options",
    "RequestOptions": "options",
    "Prediction": "predictions",
    "RecordError": "predictions",
    "RecordWarning": "predictions",
    "ServiceStatus": "service",
    "ClientSettings": "settings",
}
"""The module of each name."""


# Hidden from type checkers, which would take any name for an attribute of this module.
if not typing.TYPE_CHECKING:

    def __getattr__(name: str) -> typing.Any:
        if name in _FROM:
            value = getattr(importlib.import_module(f"{__name__}.{_FROM[name]}"), name)
            globals()[name] = value
            return value
        try:
            if not name.startswith("_"):
                return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            if error.name != f"{__name__}.{name}":
                raise
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *_FROM]
