"""How far a fleet is, told from the reports of processes that score and of their main processes."""

from __future__ import annotations

from dataclasses import replace

import orjson
import pytest

from scoreline_client.fleet import (
    ProcessReport,
    ServedModel,
    answered_models,
    convergence,
    idle_patterns,
    served_models,
    unloaded,
    words_for_unknown,
    words_for_waiting,
)
from scoreline_gateway.settings import GatewaySettings


def report(
    name: str,
    serving: int | None,
    *,
    parent: str | None = "w/1",
    children: int = 0,
    **known: object,
) -> ProcessReport:
    model = ServedModel(serving=serving, **{"wanted": serving, **known})  # type: ignore[arg-type]
    return ProcessReport(
        name=name,
        host="h",
        pid=1,
        started_at=1.0,
        reported_at=1.0,
        parent=None if children else parent,
        children=children,
        models={"m@production": model},
    )


def main(serving: int | None, children: int = 2, **known: object) -> ProcessReport:
    return report("w/1", serving, children=children, **known)


def look(*reports: ProcessReport) -> tuple[list[str], dict[str, str], list[str]]:
    return convergence(list(reports), "m", "production", 2)


def test_a_process_says_for_which_models_it_answers() -> None:
    some = replace(main(2), only="fraud-*,m", unloaded=7)
    assert ProcessReport.decode(some.encode()) == some
    assert [some.answers_for(model) for model in ("fraud-a", "m", "mm")] == [True, True, False]
    assert main(2).answers_for("mm")
    assert (answered_models([some, main(2)]), unloaded([some, main(2)])) == (["", "fraud-*,m"], 7)


@pytest.mark.parametrize(
    ("only", "idle"), [("", []), ("m", []), ("m,lons*,x", ["lons*", "x"]), ("M", ["M"])]
)
def test_a_pattern_that_no_model_fits_is_idle(only: str, idle: list[str]) -> None:
    one = replace(report("w/2", 1), only=only)
    assert idle_patterns([one]) == idle
    assert idle_patterns([one, replace(one, unloaded=1)]) == []


def test_a_main_process_does_not_count_as_one_that_serves() -> None:
    assert look(main(2), report("w/2", 2), report("w/3", 2)) == (["w/2", "w/3"], {}, [])


def test_children_that_are_not_replaced_yet_are_waited_for() -> None:
    assert look(main(2), report("w/2", 2), report("w/3", 1)) == (["w/2"], {}, ["w/3"])


def test_a_worker_whose_children_are_being_replaced_is_waited_for() -> None:
    assert look(main(2), report("w/2", 2)) == (["w/2"], {}, ["w/1"])
    assert look(main(2)) == ([], {}, ["w/1"])


def test_what_a_main_process_refuses_its_children_do_not_get() -> None:
    refused = main(1, wanted=2, refused="it faults")
    assert look(refused, report("w/2", 1), report("w/3", 1)) == (
        [],
        {"w/2": "it faults", "w/3": "it faults"},
        [],
    )


def test_a_release_that_cannot_be_read_is_a_refusal() -> None:
    unreadable = main(1, wanted=None, refused="scribbled over")
    assert look(unreadable, report("w/2", 1), report("w/3", 1))[1] == {
        "w/2": "scribbled over",
        "w/3": "scribbled over",
    }


def test_a_refusal_of_an_earlier_release_is_none_of_this_one() -> None:
    old = main(1, wanted=3, refused="it faults")
    assert look(old, report("w/2", 1), report("w/3", 1)) == ([], {}, ["w/2", "w/3"])


def test_a_process_without_a_main_process_speaks_for_itself() -> None:
    alone = report("w/1", 1, parent=None, wanted=2, refused="golden row 3 differs")
    assert look(alone) == ([], {"w/1": "golden row 3 differs"}, [])


def test_a_model_that_only_the_main_process_knows_is_served_by_nobody() -> None:
    child = report("w/2", 1)
    child.models.clear()
    ((_, models),) = served_models([main(None, wanted=2, refused="it faults"), child])
    assert models["m@production"] == ServedModel(serving=None, wanted=2, refused="it faults")


def test_a_report_of_a_newer_worker_can_be_read() -> None:
    said = orjson.loads(report("w/2", 2).encode())
    said["mood"] = "good"
    said["models"]["m@production"]["mood"] = "good"
    assert ProcessReport.decode(orjson.dumps(said)) == report("w/2", 2)


_SERVED = [
    ProcessReport(
        name="w@h/9",
        host="h",
        pid=9,
        started_at=0,
        reported_at=0,
        models={
            f"{name}@{alias}": ServedModel(serving=1, wanted=1)
            for name, alias in [
                ("churn", "production"),
                ("loans", "production"),
                ("loans", "candidate"),
            ]
        },
    ),
]


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("loanz", "no worker serves 'loanz'; did you mean 'loans'? Served: churn, loans"),
        ("quite-other", "no worker serves 'quite-other'. Served: churn, loans"),
        ("loanz@3", "no worker serves 'loanz'; did you mean 'loans'? Served: churn, loans"),
        (
            "loans@candidat",
            "model 'loans' has no alias 'candidat'; did you mean 'candidate'? Its aliases: candidate, production",
        ),
        ("loans@9", None),
        ("loans", None),
    ],
)
def test_who_has_no_store_is_told_what_is_served(reference: str, words: str | None) -> None:
    assert words_for_unknown(reference, _SERVED) == words


def test_who_published_without_a_release_is_told_what_workers_serve() -> None:
    told = words_for_unknown("new", [replace(_SERVED[0], store="/srv/store")])
    assert told is not None
    assert told.endswith(
        "Workers serve what was promoted in their artifact store: `scoreline status` says which one that is"
    )
    assert "/srv" not in told


def test_who_may_not_know_of_other_models_is_told_of_none() -> None:
    assert not GatewaySettings.names_others
    told = words_for_unknown("loanz", _SERVED, names_others=GatewaySettings.names_others)
    assert told == "no worker serves 'loanz'"


@pytest.mark.parametrize(
    ("reference", "models", "left", "words"),
    [
        ("m", {"m@production": ServedModel(serving=None, wanted=3)}, 0, "version 3 of 'm' is being loaded"),
        (
            "m",
            {"m@production": ServedModel(serving=None, wanted=3, refused="E_NOT_LOADED: no numpy")},
            0,
            "version 3 of 'm' is refused",
        ),
        ("m", {"m@production": ServedModel(serving=2, wanted=3)}, 0, None),
        ("m@candidate", {"m@production": ServedModel(serving=None, wanted=3)}, 0, None),
        ("m@3", {"m@production": ServedModel(serving=None, wanted=3)}, 0, None),
        ("m", {}, 7, "workers have 7 more models to load"),
        ("m", {}, 0, None),
    ],
)  # fmt: skip
def test_who_waits_for_a_model_is_told_what_becomes_of_it(
    reference: str, models: dict[str, ServedModel], left: int, words: str | None
) -> None:
    process = replace(_SERVED[0], models=models, unloaded=left)
    assert words_for_waiting(reference, [process]) == words


def test_a_model_that_one_process_answers_for_is_not_waited_for() -> None:
    slow = replace(_SERVED[0], models={"m@production": ServedModel(serving=None, wanted=3)})
    quick = replace(_SERVED[0], models={"m@production": ServedModel(serving=3, wanted=3)})
    assert words_for_waiting("m", [slow, quick]) is None


def test_where_nothing_is_served_the_workers_own_words_stand() -> None:
    assert words_for_unknown("loans", []) is None
