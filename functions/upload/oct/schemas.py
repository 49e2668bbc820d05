"""Wire types of predictions while the caller waits."""

from uuid import UUID

from pydantic import BaseModel, Field


class Prediction(BaseModel):
    """What was found in the image."""

    study_id: UUID
    task_id: UUID
    report_id: UUID | None
    prediction: str
    probabilities: dict[str, float] = Field(description="of each class")
    confidence: float | None = Field(description="probability of the class that is predicted")
    model: str
    model_version: str


class Pending(BaseModel):
    """The image was taken; there is no prediction yet, and `GET /studies/{study_id}` will tell."""

    study_id: UUID
    task_id: UUID | None = Field(description="null where no analysis was begun")
    status: str
    step: str | None
