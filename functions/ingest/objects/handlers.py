"""What the function ingest does for the drop-box."""

from functions.ingest.objects import service, sweep
from shared.events import ObjectCreated
from shared.runtime import Function, Services, UnitOfWork

SETTLE_SECONDS = 1.0
"""How often studies are looked for that have been quiet for long enough."""


def declare(function: Function) -> None:
    """Register the handler and the chores."""
    function.on(ObjectCreated)(take_up)
    function.every(SETTLE_SECONDS, "settle")(service.close_settled)
    function.every(lambda settings: settings.reconcile_minutes * 60, "reconcile", at_start=True)(reconcile)


def take_up(event: ObjectCreated, unit: UnitOfWork) -> None:
    """Make an object part of a study."""
    service.take_up(unit, event.object_id)


def reconcile(services: Services) -> int:
    """Sweep the bucket; returns how many objects were found that nobody had told of."""
    return sweep.reconcile(services).objects["accepted"]
