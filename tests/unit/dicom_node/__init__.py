"""Tests of single modules of dicom_node."""
