"""`make clients`: clients of the field with environments of their own, against a real server; prints a table.

Each client runs in its own environment, with its own pins, as a program that this module writes for it: it cannot be
installed beside the product. What they ask is scored by the worker's own code, in this process.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from scoreline_client.fleet import REPORT_TTL_S, ServedModel
from scoreline_client.testing import FakeScoreline
from tests.support.http_models import (
    PIMA_ROW,
    VISITS,
    VISITS_CLASSES,
    report_as_worker,
    serve_models,
)
from tests.support.http_server import serving
from tests.unit.gateway.v2.test_inference import columns, visits

VISITS_CSV = VISITS.to_csv(index=False)
KSERVE = """
import asyncio
from kserve import InferenceRESTClient, InferInput, InferRequest, RESTConfig

async def main():
    client = InferenceRESTClient(RESTConfig(protocol="v2"))
    assert await client.is_server_live(BASE)
    assert await client.is_model_ready(BASE, "pima")
    say("is_server_ready", await client.is_server_ready(BASE))
    for model, inputs in (("pima", PIMA), ("visits", VISITS_INPUTS)):
        given = [InferInput(each["name"], each["shape"], each["datatype"], each["data"], each.get("parameters")) for each in inputs]
        answer = await client.infer(BASE, InferRequest(model, given), model_name=model)
        say(f"infer {model}", answer.outputs[0].data)
    try:
        await client.infer(BASE, InferRequest("pima", given[:1]), model_name="pima")
    except Exception as error:
        say("infer of a bad record", type(error).__name__ + ": " + str(error)[:60])

asyncio.run(main())
"""
MLSERVER = """
import io, json, subprocess, sys, urllib.request
import pandas as pd
from mlserver.codecs import PandasCodec
from mlserver.types import InferenceResponse

def encoded(frame):
    return PandasCodec.encode_request(frame, use_bytes=False)

frame = pd.read_csv(io.StringIO(CSV)).astype({"smokes": bool})
request = encoded(frame)
text = request.model_dump_json()
asked = urllib.request.Request(BASE + "/v2/models/visits/infer", text.encode(), {"Content-Type": "application/json"})
answer = json.load(urllib.request.urlopen(asked))
decoded = PandasCodec.decode_response(InferenceResponse.model_validate(answer))
say("PandasCodec there and back", decoded["predict"].tolist())
program = sys.executable.replace("python", "mlserver")
host = BASE.removeprefix("http://")
for model, each in (("pima", pd.DataFrame([PIMA_ROW])), ("visits", frame)):
    with open("inputs.jsonl", "w") as file:
        file.write(json.dumps(encoded(each).model_dump(exclude_none=True, mode="json")))
    done = subprocess.run([program, "infer", "-u", host, "-m", model, "-i", "inputs.jsonl", "-o", model + ".jsonl"], capture_output=True, text=True)
    if done.returncode:
        print(done.stdout[-800:], done.stderr[-800:], file=sys.stderr)
    with open(model + ".jsonl") as file:
        say("mlserver infer " + model, json.loads(file.readline())["outputs"][0]["data"])
"""
MLFLOW = """
import io
import pandas as pd
from mlflow.pyfunc.scoring_server.client import ScoringServerClient

host, port = BASE.removeprefix("http://").split(":")
client = ScoringServerClient(host, int(port))
client.ping()
say("ping", "answered")
say("get_version", client.get_version())
frame = pd.DataFrame([PIMA_ROW, PIMA_ROW])
say("invoke pima", client.invoke(frame).get_predictions()[0].tolist())
visits = ScoringServerClient(host, int(port))
visits.url_prefix += "/models/visits"
frame = pd.read_csv(io.StringIO(CSV), parse_dates=["since"])
say("invoke visits", visits.invoke(frame).get_predictions()[0].tolist())
# As spark_udf asks its server: batches of Spark's columns, with params.
of_spark = frame.astype({"visits": "int32", "weight": "float32"})
say("spark_udf's invoke with params", visits.invoke(of_spark, params={"coerce": True}).get_predictions()[0].tolist())
try:
    client.invoke(frame[:1])
except Exception as error:
    say("invoke of a bad record", type(error).__name__)
"""
PROGRAMS = {"kserve": KSERVE, "mlserver": MLSERVER, "mlflow": MLFLOW}
EXPECTED = {
    ("kserve", "is_server_ready"): True,
    ("kserve", "infer pima"): [1],
    ("kserve", "infer visits"): VISITS_CLASSES,
    ("kserve", "infer of a bad record"): None,
    ("mlserver", "PandasCodec there and back"): VISITS_CLASSES,
    ("mlserver", "mlserver infer pima"): [1],
    ("mlserver", "mlserver infer visits"): VISITS_CLASSES,
    ("mlflow", "ping"): None,
    ("mlflow", "get_version"): None,
    ("mlflow", "invoke pima"): [1, 1],
    ("mlflow", "invoke visits"): VISITS_CLASSES,
    ("mlflow", "spark_udf's invoke with params"): VISITS_CLASSES,
    ("mlflow", "invoke of a bad record"): None,
}
"""What each call answers; None: anything that is said."""


def said_by(python: Path, name: str, base: str, folder: Path) -> dict[str, object]:
    """What a client's program says of its calls."""
    given = {
        "BASE": base,
        "PIMA": columns(),
        "PIMA_ROW": PIMA_ROW,
        "VISITS_INPUTS": visits(),
        "CSV": VISITS_CSV,
    }
    head = (
        "import json\n"
        f"globals().update(json.loads({json.dumps(json.dumps(given))}))\n"
        "def say(call, answer):\n    print('SAID ' + json.dumps([call, answer]), flush=True)\n"
    )
    program = folder / f"{name}_calls.py"
    program.write_text(head + PROGRAMS[name])
    done = subprocess.run(
        [python, program], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    if done.returncode:
        sys.stderr.write(done.stderr[-3000:])
    lines = (line for line in done.stdout.splitlines() if line.startswith("SAID "))
    return dict(json.loads(line.removeprefix("SAID ")) for line in lines)


@contextmanager
def reporting(scoreline: FakeScoreline) -> Iterator[None]:
    """Report as a worker that serves both models, again and again, as a worker does."""
    served = ServedModel(serving=3, wanted=3)
    models = {f"{name}@production": served for name in ("pima", "visits")}
    over = threading.Event()

    def report() -> None:
        report_as_worker(scoreline, models)
        while not over.wait(REPORT_TTL_S / 4):
            report_as_worker(scoreline, models)

    thread = threading.Thread(target=report)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def main(environments: Path) -> int:
    """Run every client; 1 if one of them did not get what it should."""
    table = Table("client", "call", "answer", "")
    is_good = True
    with FakeScoreline() as scoreline, tempfile.TemporaryDirectory() as folder:
        serve_models(scoreline)
        with reporting(scoreline), serving(scoreline, gateway_model="pima") as served:
            for name in PROGRAMS:
                python = environments.resolve() / name / "bin" / "python"
                said = said_by(python, name, f"http://{served.address}", Path(folder))
                for (client, what), expected in EXPECTED.items():
                    if client == name:
                        answer = said.get(what)
                        fits = answer is not None and expected in (None, answer)
                        is_good &= fits
                        table.add_row(name, what, str(answer)[:70], "" if fits else "WRONG")
    Console(width=140).print(table)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
