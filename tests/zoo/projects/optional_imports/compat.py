try:
    import fast_maths as maths
except ImportError:
    import slow_maths as maths

try:
    from slow_maths import faster
except ImportError:
    faster = None

try:
    import ujson_that_nobody_has as json
except ModuleNotFoundError:
    import json

norm = maths.norm


def shrink(frame):
    return frame * json.loads("0.5") if faster is None else faster(frame)
