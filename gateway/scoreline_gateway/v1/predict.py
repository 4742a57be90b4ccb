"""`POST /v1/models/M:predict`: a record or many, answered at once, as a job, or under an Idempotency-Key."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from scoreline_client.async_client import ONLINE_RECORDS
from scoreline_client.options import NO_OPTIONS, RequestOptions
from scoreline_client.protocol.json_records import predictions_of
from scoreline_client.protocol.keys import Lane
from scoreline_gateway.access import Right, principal_of, route
from scoreline_gateway.body import WhileConnected
from scoreline_gateway.scoring import score_one
from scoreline_gateway.v1.answers import predictions_response
from scoreline_gateway.v1.asking import (
    VALUE_OPTIONS,
    idempotency_key,
    model_of,
    options_of,
    preference_of,
    read_records,
    seconds_of,
)
from scoreline_gateway.v1.jobs import ACCEPT_S, accepted, submit_records, wait_until_over


async def predict(request: Request) -> Response:
    """Predictions for the records of the body."""
    model, client = model_of(request), request.app.client
    timeout_s, options = request.app.settings.gateway_timeout_s, NO_OPTIONS
    if request.scope["query_string"]:
        timeout_s = seconds_of(request, "timeout", timeout_s, timeout_s)
        options = options_of(request.query_params, RequestOptions, VALUE_OPTIONS, ("timeout",))
    preference, key = preference_of(request), idempotency_key(request)
    if preference.is_async or key is not None:
        principal_of(request).check(Right.JOBS, model)
    records = await read_records(request)
    if preference.is_async:
        job = await submit_records(request, model, records, options, key)
        return accepted(await job.state(), preference)
    encoded = options.encoded_options
    if records.is_single and key is None:
        prediction = await score_one(
            request, model, records.body, timeout_s=timeout_s, options=encoded
        )
        return predictions_response([prediction], is_single=True)
    with WhileConnected(request):
        if key is not None:
            # As a job, whose answer is kept for when the same request comes again.
            job = await submit_records(request, model, records, options, key)
            state = await wait_until_over(job, timeout_s)
            return await job.result(ACCEPT_S if state.is_over else 0)
        lane = Lane.ONLINE if records.count <= ONLINE_RECORDS else Lane.BULK
        queued = client.request(model, records.body, timeout_s, options=encoded)
        answer = await client.transport.ask(queued, lane, timeout_s)
        return predictions_response(predictions_of(answer), is_single=False)


routes = [route("/v1/models/{model}:predict", predict, right=Right.SCORE, methods=("POST",))]
