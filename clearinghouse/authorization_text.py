"""What a charging point shows to the customer, in his language where there is a text in it."""

from __future__ import annotations

from collections.abc import Mapping

from gem.roaming.v1.authorization_pb2 import AuthorizationStatus

_ENGLISH = "en"
_TEXTS: Mapping[int, Mapping[str, str]] = {
    AuthorizationStatus.AUTHORIZATION_STATUS_ALLOWED: {
        "en": "Welcome. You can charge now.",
        "de": "Willkommen. Sie können jetzt laden.",
        "fr": "Bienvenue. Vous pouvez recharger.",
    },
    AuthorizationStatus.AUTHORIZATION_STATUS_BLOCKED: {
        "en": "Your contract or card is blocked. Please call your provider.",
        "de": "Ihr Vertrag oder Ihre Karte ist gesperrt. Bitte rufen Sie Ihren Anbieter an.",
        "fr": "Votre contrat ou votre carte est bloqué. Veuillez appeler votre fournisseur.",
    },
    AuthorizationStatus.AUTHORIZATION_STATUS_EXPIRED: {
        "en": "Your contract or card has expired.",
        "de": "Ihr Vertrag oder Ihre Karte ist abgelaufen.",
        "fr": "Votre contrat ou votre carte a expiré.",
    },
    AuthorizationStatus.AUTHORIZATION_STATUS_NO_CREDIT: {
        "en": "There is no credit left.",
        "de": "Es ist kein Guthaben mehr vorhanden.",
        "fr": "Il ne reste plus de crédit.",
    },
    AuthorizationStatus.AUTHORIZATION_STATUS_NOT_ALLOWED: {
        "en": "You cannot charge here with this contract.",
        "de": "Mit diesem Vertrag können Sie hier nicht laden.",
        "fr": "Ce contrat ne permet pas de recharger ici.",
    },
    AuthorizationStatus.AUTHORIZATION_STATUS_UNKNOWN: {
        "en": "This card or contract is not known here.",
        "de": "Diese Karte oder dieser Vertrag ist hier nicht bekannt.",
        "fr": "Cette carte ou ce contrat n'est pas connu ici.",
    },
}


def display_text(status: int, language: str) -> str:
    """Give the text of a status in a language of BCP 47, else in English."""
    texts = _TEXTS[status]
    return texts.get(language.partition("-")[0].lower(), texts[_ENGLISH])
