"""A worker that classifies texts with a model it does not want to load for the first task: `celery -A
celery_worker.tasks worker`.
"""

from __future__ import annotations

import os
import zlib

from celery import Celery

from preheat.adapters.mapping import MappingCache
from preheat.startup.celery import warm_in_parent

FOLDER = os.environ.get("WORKER_FOLDER", "/tmp/celery-worker")
ROUNDS = 200

loads: list[str] = []


def read_model(language: str) -> dict[str, int]:
    """Weights of the words of a language: what a file or a registry of models would take."""
    loads.append(language)
    return {f"{language}-{n}": zlib.crc32(f"{language} {n}".encode() * ROUNDS) % 100 for n in range(500)}


models = MappingCache({}, read_model, name="models", priority=8)

app = Celery("worker", broker=os.environ.get("CELERY_BROKER_URL", "filesystem://"), backend=f"file://{FOLDER}/results")
app.conf.broker_connection_retry_on_startup = True
if app.conf.broker_url.startswith("filesystem"):  # no server at all: a folder
    for name in ("queue", "control", "results"):
        os.makedirs(f"{FOLDER}/{name}", exist_ok=True)
    queue, control = f"{FOLDER}/queue", f"{FOLDER}/control"
    app.conf.broker_transport_options = {
        "data_folder_in": queue,
        "data_folder_out": queue,
        "control_folder": control,
    }

warm_in_parent([models], deadline_seconds=60)  # before the pool forks; its children inherit


@app.task
def classify(language: str, text: str) -> dict[str, int]:
    """How good `text` is, and how many models this process or its parent has had to read until now."""
    model = models.get(language)
    return {"score": sum(model.get(word, 0) for word in text.split()), "loads": len(loads)}
