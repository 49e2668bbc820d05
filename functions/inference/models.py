"""The client through which this function calls models."""

from shared.oip.client import OipClient
from shared.runtime import Services


def model_client(services: Services) -> OipClient:
    """One client per process (`services.once(model_client)`)."""
    return OipClient.from_settings(services.settings)
