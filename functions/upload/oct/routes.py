"""HTTP of predictions while the caller waits."""

from typing import Annotated

from fastapi import APIRouter, Query, Request
from fastapi.responses import JSONResponse
from starlette.concurrency import run_in_threadpool

from functions.upload.forms.fields import OneFile, PatientForm, one_of
from functions.upload.oct.schemas import Pending, Prediction
from functions.upload.oct.service import Caller, await_prediction, take
from shared.errors import Conflict, Forbidden, Invalid, NotFound, TooLarge, Unauthenticated, UnsupportedImage
from shared.http.access import StudiesWriter
from shared.http.deps import ServicesDep, address_of
from shared.http.problems import problem_responses
from shared.security.audit import Actor

router = APIRouter(tags=["upload"])
MOST_SECONDS = 60
Wait = Annotated[
    float, Query(ge=0, le=MOST_SECONDS, description="how long to wait for the prediction, in seconds")
]


@router.post(
    "/oct/predict",
    summary="Send an OCT image and wait for its prediction",
    response_model=Prediction,
    responses={
        202: {"model": Pending, "description": "There is no prediction yet"},
        **problem_responses(
            Unauthenticated, Forbidden, NotFound, Conflict, TooLarge, UnsupportedImage, Invalid
        ),
    },
)
async def predict(
    request: Request,
    services: ServicesDep,
    user: StudiesWriter,
    patient: PatientForm,
    file: OneFile = None,
    image: OneFile = None,
    wait: Wait = MOST_SECONDS,
) -> JSONResponse:
    """The prediction, if there is one in time; else where the study stands, to be asked for later. The same image sent
    again is the same study, so that to ask again is no second analysis. 422 tells why there will be no prediction."""
    caller = Caller(user, Actor.of(user, address_of(request)), request.is_disconnected)
    received = await run_in_threadpool(take, services, caller, one_of(file=file, image=image), patient)
    study_id = received.study.id
    answer = await await_prediction(services, caller, study_id, wait)
    return JSONResponse(
        answer.model_dump(mode="json"),
        200 if isinstance(answer, Prediction) else 202,
        headers={"Location": f"/api/studies/{study_id}"},
    )
