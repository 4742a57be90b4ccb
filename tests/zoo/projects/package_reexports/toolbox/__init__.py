from __future__ import annotations

from ._models import PatientModel as Model
from ._scaling import PowerScale as Scale

__all__ = ["Model", "Scale"]
del annotations
