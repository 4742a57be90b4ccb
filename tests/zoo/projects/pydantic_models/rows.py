from __future__ import annotations

from typing import Optional

import numpy as np
from pydantic import BaseModel, Field, field_validator


class Rates(BaseModel):
    factor: float = 2.0


class Row(BaseModel):
    amount: float
    discount: Optional[float] = None
    rates: Rates = Field(default_factory=Rates)

    @field_validator("amount")
    @classmethod
    def positive(cls, value):
        return abs(value)


def checked(frame, rates):
    rows = [Row(**row, rates=rates) for row in frame.to_dict("records")]
    return np.array([[row.amount * row.rates.factor, row.discount or 0] for row in rows])
