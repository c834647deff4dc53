"""A plan as a document: JSON that people can read, edit and run later.

It holds what will be loaded and what is held out, not what was left out; and data only, checked field by field before
anything is made of it.  What may be edited: take items out, add some, change their order or priority.  Whether it
still fits memory and caches is another question: see `fitting`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from preheat._model import (
    CRITICAL_PRIORITY,
    DEFAULT_PRIORITY,
    PHASES,
    CandidateTable,
    ItemRef,
    MemoryBudget,
    MemoryPressureLevel,
    WarmupItem,
    WarmupPlan,
)
from preheat._plan.ordering import resolve_dependencies
from preheat._plan.sizes import MOST_BYTES, MOST_FACTOR
from preheat._plan.thresholds import CHOSEN, REASONS
from preheat.errors import InvalidPlan, nearest

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from preheat._plan.ordering import Dependencies

SCHEMA = "preheat-saved-plan/1"
MOST_TEXT_BYTES = 512 * 2**20
MOST_ITEMS = 2_000_000
MOST_NEEDS = 8_000_000
MOST_NAME = 2**16
"""Characters of a key, a recipe, a sentence."""


def plan_to_json(plan: WarmupPlan) -> str:
    """`plan` as a document that `plan_from_json` reads: an item a line, in loading order.

    What was left out is not in it, nor the memory reading behind the budget.
    """
    known = {plan.candidates.ref(row) for row in plan.order.tolist()} if plan.candidates.needs else set()
    head = {
        "schema": SCHEMA,
        "strategy": str(plan.strategy),
        "why": plan.why,
        "seed": plan.seed,
        "budget": plan.budget._asdict() | {"pressure": plan.budget.pressure.name},
        "predictors": dict(plan.predictors),
        "size_factors": [[*group, factor] for group, factor in plan.size_factors.items()],
    }
    del head["budget"]["reading"]  # type: ignore[attr-defined]
    lines = [f"{_text(name)}: {_text(value)}," for name, value in head.items()]
    phases = [
        f"{_text(name)}: {_lines(plan, rows, known, '  ')}" for name, rows in zip(PHASES, plan.chosen, strict=True)
    ]
    body = ",\n  ".join(phases)
    return "\n".join(
        ["{", *lines, f'"phases": {{\n  {body}\n}},', f'"held_out": {_lines(plan, plan.held_out, known, "")}', "}", ""]
    )


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, allow_nan=False)


def _lines(plan: WarmupPlan, rows: NDArray[np.int64], known: set[ItemRef], indent: str) -> str:
    items = (_text(_item_tree(plan, row, known)) for row in rows.tolist())
    text = ",\n  ".join(f"{indent}{item}" for item in items)
    return f"[\n  {text}\n{indent}]" if text else "[]"


def _item_tree(plan: WarmupPlan, row: int, known: set[ItemRef]) -> dict[str, Any]:
    item = plan.candidates[row]
    tree: dict[str, Any] = {"cache": item.ref.cache, "key": item.ref.key}
    if item.recipe:
        tree["recipe"] = item.recipe
    tree |= {
        "priority": item.priority,
        "size_bytes": item.size_bytes,
        "usage_frequency": item.usage_frequency,
        "warmup_cost": item.warmup_cost,
        "value_seconds": float(plan.value[row]),
    }
    needs = [list(ref) for ref in item.dependencies if ref in known]
    return tree | ({"needs": needs} if needs else {})


def plan_from_json(text: str | bytes, source: str = "plan") -> WarmupPlan:
    """The plan that `text` holds, checked.  `source` is what messages call it, usually the name of the file.

    Items of a critical priority, and what they need, are loaded in the critical phase wherever they stand; for the
    rest, the order of the document is the order of loading.  The budget is that of the time when it was made.

    Raises:
        InvalidPlan: It is no such document, is too large, or its items can't be loaded in this order.
    """
    if len(text) > MOST_TEXT_BYTES:
        raise InvalidPlan(f"{source} has {len(text)} bytes; a plan may have {MOST_TEXT_BYTES}")
    tree = _Reader(source, "").record(_parse(text, source), _DOCUMENT, required=("schema", "strategy", "phases"))
    if tree["schema"] != SCHEMA:
        raise InvalidPlan(f"{source}: its schema is {tree['schema']!r}; this version reads {SCHEMA!r}")
    by_phase = {name: tree["phases"].get(name, []) for name in PHASES}
    items = [item for name in PHASES for item in by_phase[name]]
    held_out = tree.get("held_out", [])
    _demand_bounded(source, [*items, *held_out])
    candidates = _table([*items, *held_out])
    graph = _demand_loadable(source, candidates, len(items))
    phase = np.repeat(np.arange(len(PHASES)), [len(by_phase[name]) for name in PHASES])
    is_critical = _critical(candidates, graph, len(items))
    phase[is_critical] = 0
    rows = np.arange(len(items))
    chosen = tuple(rows[phase == n] for n in range(len(PHASES)))
    return WarmupPlan(
        strategy=tree["strategy"],
        budget=_budget(tree.get("budget", {}), candidates.size_bytes[: len(items)]),
        candidates=candidates,
        value=_values(candidates),
        chosen=chosen,
        held_out=np.arange(len(items), len(candidates)),
        comparable=_comparable(graph, phase),
        left_out=np.full(len(candidates), CHOSEN, np.int8),
        reasons=REASONS,
        seed=tree.get("seed", 0),
        why=tree.get("why", "read from a saved plan"),
        predictors=tree.get("predictors", {}),
        size_factors={(cache, kind): factor for cache, kind, factor in tree.get("size_factors", [])},
    )


def _parse(text: str | bytes, source: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
    except RecursionError:
        raise InvalidPlan(f"{source} is nested too deeply to be a plan") from None
    except json.JSONDecodeError as error:
        raise InvalidPlan(f"{source}, line {error.lineno}: no JSON: {error.msg}") from None
    except UnicodeDecodeError:
        raise InvalidPlan(f"{source} is not UTF-8") from None
    except ValueError as error:
        raise InvalidPlan(f"{source}: {error}") from None


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    tree = dict(pairs)
    if len(tree) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the field {twice!r} stands twice in one place")
    return tree


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number that a plan can hold")


class _Reader:
    """Checks parts of a document; `where` says which part, for messages."""

    def __init__(self, source: str, where: str) -> None:
        self._source, self._where = source, where

    def refuse(self, fault: str) -> InvalidPlan:
        """The error that says what is wrong here."""
        return InvalidPlan(f"{self._source}: {self._where}{': ' if self._where else ''}{fault}")

    def record(self, tree: Any, fields: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
        """`tree`, whose fields are all among `fields` and pass their checks."""
        if not isinstance(tree, dict):
            raise self.refuse(f"it has to be an object with fields, and is {_shown(tree)}")
        for name in tree:
            if name not in fields:
                raise self.refuse(f"there is no field {name!r}; {nearest(name, fields)}there are: {', '.join(fields)}")
        for name in required:
            if name not in tree:
                raise self.refuse(f"the field {name!r} is missing")
        return {name: fields[name](self, name, value) for name, value in tree.items()}

    def within(self, where: str) -> _Reader:
        """A reader of a part of this one."""
        return _Reader(self._source, f"{self._where}, {where}" if self._where else where)


def _checked(expected: str, is_fit: Callable[[Any], bool]) -> Callable[[_Reader, str, Any], Any]:
    def check(reader: _Reader, name: str, value: Any) -> Any:
        if not is_fit(value):
            raise reader.refuse(f"{name} is {_shown(value)}; it has to be {expected}")
        return value

    return check


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:59]}…"


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MOST_NAME and _is_encodable(value)


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_whole(low: int, high: int) -> Callable[[Any], bool]:
    return lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_amount(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < math.inf


def _are_texts(value: Any) -> bool:
    return isinstance(value, dict) and all(_is_text(text) for pair in value.items() for text in pair)


def _is_factor(value: Any) -> bool:
    match value:
        case [str(), str(), int() | float() as factor]:
            return bool(1 / MOST_FACTOR <= factor <= MOST_FACTOR)
    return False


_WORDS = _checked(f"text of at most {MOST_NAME} characters", _is_text)
_AMOUNT = _checked("a number, 0 or more", _is_amount)
_SIZE = _checked(f"a whole number of bytes, from 0 to {MOST_BYTES}", _is_whole(0, MOST_BYTES))


def _needs(reader: _Reader, name: str, value: Any) -> tuple[ItemRef, ...]:
    is_fit = isinstance(value, list) and all(_is_pair(ref) for ref in value)
    if not is_fit:
        raise reader.refuse(f'{name} is {_shown(value)}; it has to be a list of pairs: [["cache", "key"], ...]')
    return tuple(ItemRef(cache, key) for cache, key in value)


def _is_pair(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(map(_is_text, value))


_ITEM: dict[str, Any] = {
    "cache": _WORDS,
    "key": _WORDS,
    "recipe": _WORDS,
    "priority": _checked("a whole number from 1 to 10", _is_whole(1, 10)),
    "size_bytes": _SIZE,
    "usage_frequency": _AMOUNT,
    "warmup_cost": _AMOUNT,
    "value_seconds": _AMOUNT,
    "needs": _needs,
}


def _items(reader: _Reader, name: str, value: Any) -> list[WarmupItem]:
    if not isinstance(value, list):
        raise reader.refuse(f"{name} is {_shown(value)}; it has to be a list of items")
    if len(value) > MOST_ITEMS:
        raise reader.refuse(f"{name} has {len(value)} items; a plan may have {MOST_ITEMS}")
    return [_item(reader.within(f"{name}[{n}]"), tree) for n, tree in enumerate(value)]


def _item(reader: _Reader, tree: Any) -> WarmupItem:
    if isinstance(tree, dict) and isinstance(tree.get("key"), str):
        reader = reader.within(f"item {tree.get('cache', '')}:{tree['key'][:80]}")
    fields = reader.record(tree, _ITEM, required=("cache", "key"))
    return WarmupItem(
        ref=ItemRef(fields["cache"], fields["key"]),
        priority=fields.get("priority", DEFAULT_PRIORITY),
        size_bytes=fields.get("size_bytes", 0),
        usage_frequency=float(fields.get("usage_frequency", 0.0)),
        warmup_cost=float(fields.get("warmup_cost", 0.0)),
        dependencies=fields.get("needs", ()),
        recipe=fields.get("recipe", ""),
        value_seconds=float(fields.get("value_seconds", 0.0)),
    )


_BUDGET: dict[str, Any] = {
    "granted_bytes": _SIZE,
    "reserve_bytes": _SIZE,
    "in_flight_bytes": _SIZE,
    "pressure": _checked(
        f"one of {', '.join(MemoryPressureLevel.__members__)}", MemoryPressureLevel.__members__.__contains__
    ),
    "reason": _WORDS,
}


def _list_of_factors(reader: _Reader, name: str, value: Any) -> Any:
    check = _checked(f'triples of cache, kind and a factor up to {MOST_FACTOR:g}: ["c", "", 1.5]', _is_factor)
    if not isinstance(value, list):
        raise reader.refuse(f"{name} is {_shown(value)}; it has to be a list")
    return [check(reader, f"{name}[{n}]", each) for n, each in enumerate(value)]


_DOCUMENT: dict[str, Any] = {
    "schema": _WORDS,
    "strategy": _WORDS,
    "why": _WORDS,
    "seed": _checked("a whole number from 0 to 2**63 - 1", _is_whole(0, 2**63 - 1)),
    "budget": lambda reader, name, value: reader.within(name).record(value, _BUDGET),
    "predictors": _checked("an object of cache names and predictors", _are_texts),
    "size_factors": _list_of_factors,
    "phases": lambda reader, name, value: reader.within(name).record(value, dict.fromkeys(PHASES, _items)),
    "held_out": _items,
}


def _demand_bounded(source: str, items: Sequence[WarmupItem]) -> None:
    if len(items) > MOST_ITEMS:
        raise InvalidPlan(f"{source} has {len(items)} items; a plan may have {MOST_ITEMS}")
    needs = sum(len(item.dependencies) for item in items)
    if needs > MOST_NEEDS:
        raise InvalidPlan(f"{source}: its items have {needs} needs; those of a plan may have {MOST_NEEDS}")
    seen: set[ItemRef] = set()
    for item in items:
        if item.ref in seen:
            raise InvalidPlan(f"{source}: item {item.ref} stands in it twice; take one of them out")
        seen.add(item.ref)


def _table(items: Iterable[WarmupItem]) -> CandidateTable:
    rows = list(items)
    return CandidateTable.of(rows).with_value(np.array([item.value_seconds for item in rows], np.float64))


def _values(candidates: CandidateTable) -> NDArray[np.float64]:
    return np.zeros(len(candidates)) if candidates.value_seconds is None else candidates.value_seconds


def _demand_loadable(source: str, candidates: CandidateTable, planned: int) -> Dependencies:
    """The dependencies, once each need is known to come before its dependant and not to be held out."""
    place = {ref: row for row, ref in enumerate(candidates.refs())} if candidates.needs else {}
    for row, needs in candidates.needs.items():
        for ref in needs:
            at = place.get(ref, -1)
            fault = (
                "which the plan does not have; put it in, or take out what needs it"
                if at < 0
                else "which is held out; move it to a phase, before what needs it"
                if at >= planned
                else "which comes later; move it up"
                if row <= at
                else ""
            )
            if fault:
                raise InvalidPlan(f"{source}: item {candidates.ref(row)} needs {ref}, {fault}")
    return resolve_dependencies(candidates)


def _critical(candidates: CandidateTable, graph: Dependencies, planned: int) -> NDArray[np.int64]:
    """Rows of a critical priority, and what they need, among those that are `planned`."""
    critical = candidates.priority >= CRITICAL_PRIORITY
    critical[planned:] = False
    marked = critical[graph.nodes]
    graph.mark_needs(marked)
    critical[graph.nodes] = marked
    return np.flatnonzero(critical)


def _comparable(graph: Dependencies, phase: NDArray[np.int64]) -> NDArray[np.int64]:
    """Planned rows that could have been held out: what can wait, and nothing planned or held out needs."""
    could = phase > 0
    could[graph.nodes[graph.needs]] = False
    return np.flatnonzero(could)


def _budget(tree: Mapping[str, Any], size_bytes: NDArray[np.int64]) -> MemoryBudget:
    return MemoryBudget(
        granted_bytes=tree.get("granted_bytes", int(size_bytes.sum())),
        reserve_bytes=tree.get("reserve_bytes", 0),
        in_flight_bytes=tree.get("in_flight_bytes", 0),
        pressure=MemoryPressureLevel[tree.get("pressure", "LOW")],
        reading=None,
        reason=tree.get("reason", "what its items weigh"),
    )
