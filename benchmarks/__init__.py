"""Measured throughput and latency against peers; never imported."""
