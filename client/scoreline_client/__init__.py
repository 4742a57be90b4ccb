"""The client, for applications that need predictions: `Client().predict("pima", {"preg": 6, …})`."""

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
