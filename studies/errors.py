"""The errors of Osteon; the type of an error decides whether a retry makes sense.

::

    OsteonError
    ├── ConfigurationError        a setting, model card or file of the site is wrong: stop, say where
    ├── TemporaryError            trying again may help; carries the delay before the next try
    │   ├── NoRoom                the disk's reserve would be touched
    │   └── DestinationUnreachable  a peer does not answer, or answers "not now"
    └── PermanentError            trying again cannot help; a person has to look
        ├── InvalidInstance       bytes that cannot be a DICOM instance we may keep
        ├── ConflictingInstance   a UID we hold already, with other content or another patient
        ├── UnreadablePixels      the pixel data cannot be decoded, or means nothing to our models
        ├── NotAnalysable         a sound image that no model may read (region, modality, frames …)
        ├── DeliveryRefused       a peer has said no for good
        └── UnknownStudy          asked for something that we do not hold

No message names a patient: studies, series and instances are named by their UIDs.
"""

from __future__ import annotations


class OsteonError(Exception):
    """Anything that Osteon itself reports as wrong."""


class ConfigurationError(OsteonError):
    """A setting, a model card or a file of the site is wrong; the message says which and where."""


class TemporaryError(OsteonError):
    """Trying again may help.

    Parameters
    ----------
    message
        Names the study by UID, never the patient.
    delay
        Seconds to wait before the next try.
    """

    def __init__(self, message: str, *, delay: float = 60.0) -> None:
        super().__init__(message)
        self.delay = delay


class NoRoom(TemporaryError):
    """Writing would touch the reserve that work in flight needs."""


class DestinationUnreachable(TemporaryError):
    """A peer cannot be reached, or answers with a transient status."""


class PermanentError(OsteonError):
    """Trying again cannot help; a person has to look."""


class InvalidInstance(PermanentError):
    """Bytes that cannot be a DICOM instance we may keep."""


class ConflictingInstance(PermanentError):
    """A SOP Instance UID that we hold already, with other content, study or patient."""


class UnreadablePixels(PermanentError):
    """The pixel data cannot be decoded, or means nothing to our models."""


class NotAnalysable(PermanentError):
    """A sound image that no model may read; the message completes "not analysed, because …"."""


class DeliveryRefused(PermanentError):
    """A peer has refused an object with a status that a retry cannot change."""


class UnknownStudy(PermanentError):
    """Asked for a study, reading or delivery that the database does not hold."""
