"""A shop over HTTP that is ready when it is warm: `uvicorn fastapi_app.app:app`."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Annotated

from fastapi import FastAPI, Path, Response

import preheat
from preheat import heat

ROUNDS = 20_000  # of work for a page: what a database and a template would take
loads: Counter[str] = Counter()


@heat.cached(name="products", ttl_seconds=600, priority=8)  # critical: the shop is ready once these are warm
def product(number: int) -> dict[str, str]:
    loads["products"] += 1
    return {"name": f"product {number}", "text": work(f"product {number}")}


@heat.cached(name="similar", max_items=10_000, ttl_seconds=600)
def similar(number: int) -> list[int]:
    loads["similar"] += 1
    return sorted(int(work(f"like {number}, {n}")[:4], 16) % 1000 for n in range(3))


def work(text: str) -> str:
    return hashlib.pbkdf2_hmac("sha256", text.encode(), b"shop", ROUNDS).hex()


warming = preheat.lifespan(gate="critical", deadline_seconds=30, listen_first=True)
app = FastAPI(title="shop", lifespan=warming)

Number = Annotated[int, Path(ge=0, lt=1000)]


@app.get("/products/{number}")
def show(number: Number) -> dict[str, object]:
    """A product, and what is like it."""
    return {**product(number), "similar": similar(number)}


@app.get("/ready")
def ready(response: Response) -> dict[str, str]:
    """For a readiness probe: 503 until the critical phase has ended, or 30 seconds have passed."""
    reason = warming.why_not_ready()
    response.status_code = 200 if reason is None else 503
    return {"status": reason or "ready"}


@app.get("/health")
def health() -> dict[str, str]:
    """For a liveness probe: answers as soon as the listener is open, warm or not."""
    return {"status": "alive"}


@app.get("/loads")
def loaded() -> dict[str, int]:
    """How often each cache has had to load since the process started, for the warm-up or for a request."""
    return dict(loads)
