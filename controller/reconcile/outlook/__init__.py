"""The outlook: a change of the desired state, the coming months, one device explained."""

from .changes import DocumentChange, FieldChange
from .comparison import Comparison, PolicyComparison, compare
from .drill_estimates import with_estimates
from .drill_sample import draw
from .explanation import Explanation, explain
from .forecasting import Forecast, Forecaster, ForecastRow, forecast
from .moved import Moved, RotationSpan
from .simulation import EVERY, Simulation, simulate
from .virtual_fleet import Luck
