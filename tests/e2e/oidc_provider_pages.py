"""The pages of the provider's Django site, and what it says of people. Imported once Django is set up."""

from typing import Any

from django.contrib.auth.views import LoginView
from django.urls import include, path
from oauth2_provider.oauth2_validators import OAuth2Validator

urlpatterns = [path("login/", LoginView.as_view()), path("", include("oauth2_provider.urls"))]


class Claims(OAuth2Validator):
    """All claims go into the ID token, whatever scopes were asked for."""

    oidc_claim_scope = None

    def get_additional_claims(self, request: Any) -> dict[str, Any]:
        user = request.user
        return {
            "email": user.email,
            "email_verified": True,
            "name": user.first_name,
            "groups": [group.name for group in user.groups.all()],
        }
