"""The runtime: functions, units of work, and buses that deliver each event at least once with exactly-once effect."""

from shared.runtime.bus import Bus, Consumer, DeadLetters
from shared.runtime.function import Chore, Function, Handler
from shared.runtime.outcomes import LeaseLost, Reject, Retry
from shared.runtime.services import Services
from shared.runtime.unit import UnitOfWork
from shared.runtime.work import LongWork

__all__ = [
    "Bus",
    "Chore",
    "Consumer",
    "DeadLetters",
    "Function",
    "Handler",
    "LeaseLost",
    "LongWork",
    "Reject",
    "Retry",
    "Services",
    "UnitOfWork",
]
