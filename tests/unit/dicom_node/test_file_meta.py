"""The file meta information that we write before a data set."""

from __future__ import annotations

from io import BytesIO

import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEGLosslessSV1

from dicom_node.file_meta import file_header
from dicom_node.implementation import IMPLEMENTATION_CLASS_UID
from dicom_node.intake import StoreRequest
from reports.uids import IMPLEMENTATION_CLASS_UID as IN_REPORTS
from studies.model import Sender


@pytest.mark.parametrize("ae_title", ["CR1", "ROOM 12"])
@pytest.mark.parametrize("uid", ["1.2.3", "1.2.34"])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, JPEGLosslessSV1])
def test_pydicom_reads_what_we_write(ae_title, uid, syntax):
    """PS3.10 7.1: every value, whatever its length's parity, and where the data set begins."""
    request = StoreRequest(
        SOPClassUID="1.2.840.10008.5.1.4.1.1.1",
        SOPInstanceUID=uid,
        TransferSyntaxUID=syntax,
        sender=Sender(ae_title=ae_title, address="10.0.0.1"),
    )
    header = file_header(request)

    meta = pydicom.dcmread(BytesIO(header)).file_meta

    assert meta.MediaStorageSOPClassUID == request.SOPClassUID
    assert meta.MediaStorageSOPInstanceUID == uid
    assert meta.TransferSyntaxUID == syntax
    assert meta.ImplementationClassUID == IMPLEMENTATION_CLASS_UID
    assert meta.ImplementationVersionName == "OSTEON"
    assert meta.SourceApplicationEntityTitle == ae_title
    assert meta.FileMetaInformationGroupLength == len(header) - 144


def test_we_are_one_implementation_on_the_network_and_in_our_reports():
    """PS3.7 D.3.3.2: the class UID names the implementation, not its parts."""
    assert IMPLEMENTATION_CLASS_UID == IN_REPORTS
