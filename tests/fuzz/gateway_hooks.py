"""What schemathesis has to know of `/v1` beside its documents; it runs in an environment of its own."""

import schemathesis

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
