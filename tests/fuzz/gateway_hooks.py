"""What schemathesis has to know of `/v1` beside its documents; it runs in an environment of its own."""

import json

import schemathesis

NOT_OF_SCHEMA = {
    "E_PREDICT",  # a pipeline may fail for some values
    "E_MODEL_OUTPUT",
    "E_OUT_OF_RANGE",  # refused as the query asks
    "E_CATEGORY",
    "E_KEY_REUSED",
}
"""Reasons why records are refused that fit a document."""
TIMES = ("since",)
"""Columns of times: that a text is one, JSON Schema says more narrowly than workers read it."""
SEEN = {}
"""What came under a key first."""


@schemathesis.hook
def filter_case(context, case):
    """A key stands for one request; and an array with a record that cannot be scored is no wrong request."""
    headers = {name.lower(): value for name, value in (case.headers or {}).items()}
    if (key := headers.get("idempotency-key")) is not None:
        asked = (case.operation.label, repr(case.query), repr(case.body))
        if SEEN.setdefault(key, asked) != asked:
            return False
    is_wrong = case.meta is not None and case.meta.generation.mode.is_negative
    return not (is_wrong and isinstance(case.body, list) and len(case.body) > 0)


@schemathesis.check
def permitted_records_are_scored(ctx, response, case):
    """Records that a document permits are answered, unless the pipeline itself fails for them."""
    # Not a file, of which any bytes are one.
    is_sent = case.method.upper() == "POST" and case.meta is not None
    if response.status_code == 422 and is_sent and case.meta.generation.mode.is_positive:
        problem = json.loads(response.content)
        told = problem.get("errors", [problem])
        bad = [
            one
            for one in told
            if one["code"] not in NOT_OF_SCHEMA and one.get("column") not in TIMES
        ]
        assert not bad, f"refused, although the document permits it: {bad[0]}"
