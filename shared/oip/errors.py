"""What can go wrong between a function and a model server."""

from shared.errors import HounsfieldError, Invalid, Unavailable


class InvalidTensor(Invalid):
    """The tensor's data does not fit its datatype or shape, or an object is named in a way that is not allowed."""

    slug, title = "invalid-tensor", "Invalid tensor"


class ModelUnavailable(Unavailable):
    """No model server answered in time; the same call may succeed later."""

    slug, title = "model-unavailable", "Model unavailable"


class ModelRefused(Invalid):
    """The model server refused the input, or has no such model or version; its reason is the detail."""

    slug, title = "model-refused", "Refused by the model"


class ModelFailed(HounsfieldError):
    """The model server broke on this call, or answered something that is no Open Inference Protocol."""

    slug, title = "model-failed", "Model failed"


class ModelInterrupted(ModelFailed):
    """The call broke or outlasted its deadline when it may already have been computing. A model server that dies of
    an input would do so again: unlike one that is merely away, this counts as a failure of the call."""

    slug, title = "model-interrupted", "Model call interrupted"
