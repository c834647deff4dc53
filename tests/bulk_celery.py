"""A Celery application whose workers take part in bulk warm-ups."""

import os

from celery import Celery

from preheat.bulk.celery import register

BROKER = "BULK_TEST_BROKER"

app = Celery("bulk_celery", broker=os.environ[BROKER])
app.conf.broker_connection_retry_on_startup = True
register(app)
