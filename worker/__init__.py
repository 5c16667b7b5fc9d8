"""What runs in Celery: pixels, models, findings and one study's story."""
