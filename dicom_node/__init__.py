"""All DICOM networking: the listener, the sender and what they distrust."""
