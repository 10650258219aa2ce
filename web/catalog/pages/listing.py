"""The list of adapters: what was asked for, and links that ask for a little more or less."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import get_args

from werkzeug.datastructures import MultiDict

from hub.adapter.facets import COUNTED, Facet
from hub.errors import InvalidRef, InvalidRequest
from hub.formats.sizes import size_text
from hub.refs import AdapterRef
from hub.registry.values import FacetValue, Page, Query, Sort

from .formats import method_text

PAGE_SIZE = 20
FACET_SIZE = 7
LIMITS: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    ("rank_max", "Fits max-lora-rank", (8, 16, 32, 64, 128)),
    ("size_max", "At most", (5_000_000, 50_000_000, 500_000_000)),
)
"""Limits of which one may be chosen: (field, title, choices)."""

_SORTS: tuple[tuple[Sort, str], ...] = (("recent", "Recently updated"), ("downloads", "Downloads"), ("new", "New"))
_KEPT = ("q", "sort", *(field for field, _, _ in LIMITS), *(facet.name for facet in COUNTED))

Urls = Callable[[Mapping[str, Sequence[str]]], str]


@dataclass(frozen=True, slots=True)
class FacetLink:
    """One value of a facet; following `href` switches it on or off."""

    label: str
    count: int | None
    href: str
    active: bool


@dataclass(frozen=True, slots=True)
class ShownFacet:
    """A field with its values; `rest` are folded away."""

    title: str
    first: tuple[FacetLink, ...]
    rest: tuple[FacetLink, ...]


@dataclass(frozen=True, slots=True)
class ListingView:
    """Everything that the list page shows beside the adapters themselves."""

    limits: tuple[ShownFacet, ...]
    facets: tuple[ShownFacet, ...]
    sorts: tuple[FacetLink, ...]
    filters: tuple[FacetLink, ...]
    clear: str
    next_href: str | None
    first_href: str | None


def parse_query(args: MultiDict[str, str], namespace: str | None = None) -> Query:
    """Read the address's query.  Raises InvalidRequest for a sort or rank that isn't one."""
    sort = args.get("sort") or "recent"
    if sort not in get_args(Sort):
        raise InvalidRequest(f"Adapters can't be sorted by {sort[:40]!r}; choose {', '.join(get_args(Sort))}.")
    having = {facet.name: tuple(_value(facet, text) for text in args.getlist(facet.name)) for facet in COUNTED}
    return Query(
        text=_searched(args.get("q", "").strip()),
        having=having | {"namespace": (namespace,) if namespace else ()},
        rank_max=_number(args["rank_max"], "rank_max") if args.get("rank_max") else None,
        size_max=_number(args["size_max"], "size_max") if args.get("size_max") else None,
        sort=sort,  # type: ignore[arg-type]  # checked against the literal above
        limit=PAGE_SIZE,
        cursor=args.get("cursor") or None,
    )


def _searched(text: str) -> str:
    """Return what to look for: of a ref that was pasted, `task/qa@v3` or `hf://…`, the adapter's name."""
    try:
        return str(AdapterRef.parse(text).adapter)
    except InvalidRef:
        return text


def _value(facet: Facet, text: str) -> str:
    return facet.term(_number(text, facet.name)) if facet.kind is int else facet.term(text)


def _number(text: str, name: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InvalidRequest(f"{name} is {text[:40]!r}; it takes a whole number, e.g. 16.")
    return int(text)


def view_listing(args: MultiDict[str, str], page: Page, urls: Urls) -> ListingView:
    """Return the links around one page of results.  `urls` turns query fields into an address of the same page."""
    state = {name: args.getlist(name) for name in _KEPT if args.getlist(name)}
    facets = (
        _facet(each.title, _facet_links(each.name, page.facets.get(each.name, ()), state, urls)) for each in COUNTED
    )
    return ListingView(
        facets=tuple(each for each in facets if each.first),
        limits=tuple(
            ShownFacet(title, tuple(_limit_link(field, choice, state, urls) for choice in choices), ())
            for field, title, choices in LIMITS
        ),
        sorts=tuple(_sort_link(sort, title, state, urls) for sort, title in _SORTS),
        filters=_active_filters(state, urls),
        clear=urls({name: state[name] for name in ("q", "sort") if name in state}),
        next_href=urls({**state, "cursor": [page.next_cursor]}) if page.next_cursor else None,
        first_href=urls(state) if args.get("cursor") else None,
    )


def _facet(title: str, found: Sequence[FacetLink]) -> ShownFacet:
    """Fold away what is beyond the first few, but never a value that is switched on."""
    shown = [link for index, link in enumerate(found) if link.active or index < FACET_SIZE]
    return ShownFacet(title, tuple(shown), tuple(link for link in found if link not in shown))


def _facet_links(
    name: str, values: Sequence[FacetValue], state: Mapping[str, Sequence[str]], urls: Urls
) -> tuple[FacetLink, ...]:
    active = list(state.get(name, ()))
    shown = [(item.value, item.count) for item in values]
    known = {value for value, _ in shown}
    pairs: list[tuple[str, int | None]] = [*shown, *((value, None) for value in active if value not in known)]
    return tuple(
        FacetLink(facet_label(name, value), count, urls(_toggled(state, name, value)), value in active)
        for value, count in pairs
    )


def facet_label(name: str, value: str) -> str:
    """How a facet's value reads: `lora` -> `LoRA`, rank 8 -> `r 8`."""
    if name == "method":
        return method_text(value)
    if name == "size_max" and value.isdigit() and len(value) <= 15:
        return size_text(int(value))
    return f"r {value}" if name == "rank" else value


def _toggled(state: Mapping[str, Sequence[str]], name: str, value: str) -> dict[str, list[str]]:
    kept = {key: list(values) for key, values in state.items()}
    values = kept.get(name, [])
    kept[name] = [each for each in values if each != value] if value in values else [*values, value]
    return kept


def _limit_link(field: str, choice: int, state: Mapping[str, Sequence[str]], urls: Urls) -> FacetLink:
    value = str(choice)
    active = list(state.get(field, ())) == [value]
    kept = {key: values for key, values in state.items() if key != field}
    return FacetLink(facet_label(field, value), None, urls(kept if active else {**kept, field: [value]}), active)


def _sort_link(sort: Sort, title: str, state: Mapping[str, Sequence[str]], urls: Urls) -> FacetLink:
    current = (list(state.get("sort", ())) or ["recent"])[0]
    return FacetLink(title, None, urls({**state, "sort": [sort]}), current == sort)


def _active_filters(state: Mapping[str, Sequence[str]], urls: Urls) -> tuple[FacetLink, ...]:
    links = []
    for name, values in state.items():
        if name in {"q", "sort"}:
            continue
        for value in values:
            words = {"rank_max": "fits max-lora-rank ", "size_max": "at most "}.get(name, "")
            label = words + facet_label(name, value)
            links.append(FacetLink(label, None, urls(_toggled(state, name, value)), True))
    return tuple(links)
