"""Pickles of earlier releases find the functions that they name."""

from __future__ import annotations

import base64

from scoreline_artifacts.loading import artifact
from scoreline_artifacts.loading.namespace import Namespace

PUBLISHED = (
    "fCZJZ0RR9100018lqifGb7OCEWo&6~WnW=(bZKT`V{~&aVtHS7VQh6}l#B^&VQXbyWo~tCl#`Swj09zFb#0W42UB!%MQ(L%l#`T&"
    "l#B#ZX=G)TXb6l5UteuuX>MO%lzo(p1WZLnRFsSaY-MJ2lyh{HQj}-`j0t9GY;0d;Zgp*xlay!<eUyEaXbXLmbB2_LQZQ%?g_Kg1"
    "XaS56ZDDI=Uv6P-Wn^D;b#QEDl#`Swj096~VQ!RY8E6TN18i@1l#B#uX=iAZhLnAjXd6dBA^-pY0001Ubd*w*XaS50W@&6}Ut?@x"
    "b90oFlxQD)lqif3UteKvZf|s9bZKvHb6;PSeUvC@8jK2LX>4pRUu0=)Y?O=&Uu<t-WM6c7aAlN}l#B&tY;R$7l!cU1lxQ1hDs_ww"
    "Ute!>X=h(zVRL13Utg4r26TCFX>Mnfj0#R+ZDnLsb#QEDl#`T&l#C5uUvq44bZ%j7WpiI&lwFi{hEgy`KmY&$00000M?fL~000000"
    "EU!-lxP8r5^Z5?WnXl8aAjY1VRC6<Vr*rUlawfo0aTPuDT#@6lv0#sE&"
)
"""A member of an enum, a named tuple and a type variable, as the first release that stored them by value did."""


def test_a_pickle_of_the_first_release_comes_back() -> None:
    data = base64.b85decode(PUBLISHED)
    side, span, variable = artifact.unpickle(data, Namespace("m@1", {}, {}))
    assert (side, side.name, type(side).__name__) == ("left", "LEFT", "Side")
    assert (span.low, span.high, type(span).__name__) == (2.0, 9.0, "Span")
    assert variable.__name__ == "T"
