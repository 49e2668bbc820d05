"""Every metric, with its meaning and unit."""

from prometheus_client import Counter, Histogram

EVENTS_HANDLED = Counter(
    "hounsfield_events_handled_total",
    "Events that a function finished, by outcome: done, retried, dead, lost (the lease went to another worker).",
    ["function", "type", "outcome"],
)
EVENT_SECONDS = Histogram(
    "hounsfield_event_seconds",
    "Seconds from taking up an event to its outcome.",
    ["function", "type"],
    buckets=(0.005, 0.02, 0.1, 0.5, 1, 5, 15, 60, 300, 1800),
)
STEP_SECONDS = Histogram(
    "hounsfield_pipeline_step_seconds",
    "Seconds that one pipeline step took, not counting steps remembered from an earlier attempt.",
    ["pipeline", "step"],
    buckets=(0.01, 0.05, 0.2, 1, 3, 10, 30, 120, 600),
)
HTTP_SECONDS = Histogram(
    "hounsfield_http_request_seconds",
    "Seconds to answer a request, by route template and status class.",
    ["method", "route", "status"],
    buckets=(0.005, 0.02, 0.1, 0.5, 2, 10, 60),
)
DICOM_ASSOCIATIONS = Counter(
    "hounsfield_dicom_associations_total",
    "DICOM associations that peers asked for, by outcome: asked (of known peers), refused.",
    ["outcome"],
)
DICOM_INSTANCES = Counter(
    "hounsfield_dicom_instances_total",
    "DICOM instances that were sent to us, by way (dimse, stow) and outcome: stored, refused.",
    ["way", "outcome"],
)
INCOMING_OBJECTS = Counter(
    "hounsfield_incoming_objects_total",
    "Objects found in the bucket incoming, by who told of them (notice, folder, sweep) and what became of them: accepted, "
    "known, missing, or why they are left alone.",
    ["source", "outcome"],
)
