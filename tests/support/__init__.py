"""What the tests share: making DICOM, finding peers, waiting on conditions."""
