"""What pages show, from values alone: numbers, times, facets, trees, verdicts, feeds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, date, datetime, timedelta
from itertools import product
from urllib.parse import parse_qs, urlencode, urlsplit
from xml.etree import ElementTree

import pytest
from werkzeug.datastructures import MultiDict

from hub.adapter.config import LoraConfig
from hub.base.spec import BaseMatch, compare_identity
from hub.errors import InvalidRequest
from hub.fit.parameters import summarize
from hub.formats.sizes import size_text
from hub.manifest import BaseIdentity, FileEntry, Manifest, TensorEntry
from hub.registry.values import Base, DailyDownloads, FacetValue, Page
from hub.web.catalog.pages import verdicts
from hub.web.catalog.pages.bases import base_tree
from hub.web.catalog.pages.changes import ModuleMove, field_changes, file_changes, tensor_changes, view_changes
from hub.web.catalog.pages.feeds import ATOM, Entry, render_feed
from hub.web.catalog.pages.formats import (
    about_text,
    ago,
    base_name,
    count_text,
    method_text,
    natural_key,
    number_text,
)
from hub.web.catalog.pages.grid import OUTSIDE, place_of, rows_and_columns
from hub.web.catalog.pages.layers import LayerRow, draw_layers, view_parameters
from hub.web.catalog.pages.listing import FACET_SIZE, parse_query, view_listing
from hub.web.catalog.pages.verdicts import judge, judge_bases
from hub.web.catalog.pages.version import fill_days, serving_fit, targets

NOW = datetime(2026, 3, 10, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (1_843_200, "1.8 MB"),
        (50_000_000, "50 MB"),
        (999_600, "1.0 MB"),
        (123_456_789_000, "123 GB"),
    ],
)
def test_sizes_read_as_a_disk_counts(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("count", "text"), [(7, "7"), (999, "999"), (1234, "1.2k"), (999_600, "1.0M"), (4_194_304, "4.2M")]
)
def test_counts_are_short(count: int, text: str) -> None:
    assert count_text(count) == text


def test_numbers_keep_what_matters() -> None:
    assert [number_text(value) for value in (16.0, 0.5, 4_194_304.0)] == ["16", "0.5", "4,194,304"]


@pytest.mark.parametrize(
    ("back", "text"),
    [
        (timedelta(seconds=-5), "just now"),
        (timedelta(seconds=59), "just now"),
        (timedelta(minutes=5), "5 min ago"),
        (timedelta(hours=1), "1 hour ago"),
        (timedelta(days=13), "13 days ago"),
        (timedelta(days=15), "2 weeks ago"),
        (timedelta(days=400), "1 year ago"),
    ],
)
def test_times_say_how_long_ago(back: timedelta, text: str) -> None:
    assert ago(NOW - back, NOW) == text


def test_methods_have_their_own_spelling() -> None:
    assert method_text("dora+rslora") == "DoRA + rsLoRA"


def test_description_shows_code_as_code_and_never_as_markup() -> None:
    assert about_text("say `a < b` <b>") == "say <code>a &lt; b</code> &lt;b&gt;"
    assert about_text("one ` alone <") == "one ` alone &lt;"


def test_base_is_short_where_there_is_little_room() -> None:
    assert [base_name(base) for base in ("org/model", "model", "/models/m/", "/")] == ["model", "model", "m", "/"]


def test_layers_sort_as_numbers() -> None:
    assert sorted(["layers.10", "layers.9"], key=natural_key) == ["layers.9", "layers.10"]
    odd = ["²", "9" * 5000, "", "a1b²"]
    assert sorted(odd, key=natural_key)  # neither a digit of another kind nor a number without end is an error


@pytest.mark.parametrize(
    ("module", "row", "column"),
    [
        ("model.layers.3.self_attn.q_proj", "q_proj", "3"),
        ("transformer.h.11.attn.c_attn", "c_attn", "11"),
        ("model.layers.0.mlp.experts.5.up_proj", "experts.5.up_proj", "0"),
        ("model.decoder.layers.2.fc1", "fc1", "2"),
        ("model.embed_tokens", "embed_tokens", OUTSIDE),
        ("lm_head", "lm_head", OUTSIDE),
    ],
)
def test_modules_find_their_place_in_the_grid(module: str, row: str, column: str) -> None:
    place = place_of(module)
    assert (place.row, place.column) == (row, column)


def test_grid_puts_known_modules_first_and_layers_in_number_order() -> None:
    places = [place_of(f"model.layers.{layer}.x.{name}") for layer in (10, 2) for name in ("b", "a")]
    rows, columns = rows_and_columns(places, ("x.b",))
    assert rows == ("x.b", "x.a")
    assert columns == ("2", "10")


def page(**facets: Sequence[tuple[str, int]]) -> Page:
    values = {name: tuple(FacetValue(value, count) for value, count in pairs) for name, pairs in facets.items()}
    return Page(items=(), next_cursor="more", total=9, facets=values)


def urls(fields: Mapping[str, Sequence[str]]) -> str:
    return "/?" + urlencode({name: list(values) for name, values in fields.items()}, doseq=True)


def asked(href: str | None) -> dict[str, list[str]]:
    return parse_qs(urlsplit(href or "").query)


def test_facet_link_adds_its_value_and_an_active_one_takes_it_away() -> None:
    args = MultiDict([("q", "json"), ("method", "lora"), ("tag", "a")])
    view = view_listing(args, page(method=[("lora", 3), ("dora", 1)]), urls)
    lora, dora = view.facets[0].first
    assert (lora.active, lora.label, dora.active) == (True, "LoRA", False)
    assert asked(lora.href) == {"q": ["json"], "tag": ["a"]}
    assert asked(dora.href) == {"q": ["json"], "tag": ["a"], "method": ["lora", "dora"]}


def test_next_page_keeps_the_question_and_a_filter_starts_over() -> None:
    args = MultiDict([("q", "json"), ("cursor", "here"), ("sort", "new")])
    view = view_listing(args, page(method=[("lora", 3)]), urls)
    assert asked(view.next_href) == {"q": ["json"], "sort": ["new"], "cursor": ["more"]}
    assert "cursor" not in asked(view.facets[0].first[0].href)
    assert asked(view.first_href) == {"q": ["json"], "sort": ["new"]}


def test_long_facet_folds_all_but_what_is_switched_on() -> None:
    tags = [(f"t{index}", 1) for index in range(20)]
    view = view_listing(MultiDict([("tag", "t15"), ("tag", "gone")]), page(tag=tags), urls)
    shown = [link.label for link in view.facets[0].first]
    assert shown == [*(f"t{index}" for index in range(FACET_SIZE)), "t15", "gone"]
    assert len(view.facets[0].rest) == 20 - FACET_SIZE - 1


def test_serving_limit_is_one_choice() -> None:
    view = view_listing(MultiDict([("rank_max", "16")]), page(), urls)
    ranks, sizes = (limit.first for limit in view.limits)
    assert [link.label for link in (*ranks, *sizes) if link.active] == ["16"]
    assert asked(ranks[0].href) == {"rank_max": ["8"]}
    assert asked(ranks[1].href) == {}
    assert asked(sizes[0].href) == {"rank_max": ["16"], "size_max": ["5000000"]}
    assert [link.label for link in sizes] == ["5 MB", "50 MB", "500 MB"]


def test_query_reads_every_filter() -> None:
    args = MultiDict([("q", " json "), ("task", "qa"), ("target", "q_proj"), ("target", "v_proj"), ("rank_max", "16")])
    query = parse_query(args, "team")
    narrowed = {name: values for name, values in query.having.items() if values}
    assert narrowed == {"task": ("qa",), "target": ("q_proj", "v_proj"), "namespace": ("team",)}
    assert (query.text, query.rank_max, query.sort) == ("json", 16, "recent")


@pytest.mark.parametrize("args", [{"sort": "random"}, {"rank": "x"}, {"rank_max": "-1"}, {"rank_max": "9" * 30}])
def test_query_that_makes_no_sense_is_refused(args: dict[str, str]) -> None:
    with pytest.raises(InvalidRequest):
        parse_query(MultiDict(args))


def test_target_strip_is_for_llama_projections_only() -> None:
    strip = targets(("q_proj", "down_proj"))
    assert [(target.label, target.on) for target in strip if target.on] == [("q", True), ("down", True)]
    assert len(strip) == 7
    assert targets(("q_proj", "lm_head")) == ()
    assert targets(()) == ()


def test_serving_fit_names_every_reason() -> None:
    assert serving_fit(12, LoraConfig(rank=12)).limit == 16
    refused = serving_fit(600, LoraConfig(use_dora=True, modules_to_save=("lm_head",), bias="all"))
    assert refused.limit is None
    assert len(refused.reasons) == 4


def test_quiet_days_count_as_zero() -> None:
    days = fill_days([DailyDownloads("2026-03-09", 4)], date(2026, 3, 10))
    assert days[-2:] == ((date(2026, 3, 9), 4), (date(2026, 3, 10), 0))
    assert len(days) == 60


def base(
    id: str, *, shapes: str = "", weights: str = "", parent: str | None = None, children: tuple[str, ...] = ()
) -> Base:
    marks = (tuple(filter(None, [shapes])), tuple(filter(None, [weights])))
    return Base(id, None, (), *marks, parent, children, 1, NOW)


def test_verdict_on_a_base_says_why() -> None:
    recorded = BaseIdentity(id="org/base", shapes="s1", weights="w1-f32")
    verdicts = {
        "same weights": judge(recorded, "org/base", base("renamed", shapes="s1", weights="w1-f32")),
        "fine-tune": judge(recorded, "org/base", base("org/tuned", shapes="s1", weights="w2-f32")),
        "stored in another format": judge(recorded, "org/base", base("org/half", shapes="s1", weights="w2-f16")),
        "named by its files": judge(recorded, "org/base", base("org/files", shapes="files:s2")),
        "other": judge(recorded, "org/base", base("org/other", shapes="s2", weights="w3")),
        "copy": judge(recorded, "org/base", base("local/nf4", parent="org/base")),
        "blank": judge(recorded, "org/base", base("org/unknown")),
        "own": judge(BaseIdentity(id="org/base"), "org/base", base("org/base")),
    }
    assert {name: row.verdict for name, row in verdicts.items()} == {
        "same weights": "fits",
        "fine-tune": "refused",
        "stored in another format": "unknown",
        "named by its files": "unknown",
        "other": "refused",
        "copy": "fits",
        "blank": "unknown",
        "own": "declared",
    }


def test_verdicts_put_what_fits_first() -> None:
    rows = judge_bases(
        BaseIdentity(weights="w1", shapes="s"), "b", [base("x", shapes="t"), base("y"), base("b", weights="w1")]
    )
    assert [row.base for row in rows] == ["b", "y", "x"]


def test_copies_stand_below_their_base_and_a_circle_ends() -> None:
    tree = base_tree([base("a"), base("b", parent="a"), base("c", parent="b"), base("lost", parent="gone")])
    assert [node.base.id for node in tree] == ["a", "lost"]
    assert tree[0].children[0].children[0].base.id == "c"
    circle = base_tree([base("x", parent="y"), base("y", parent="x")])
    assert (circle[0].base.id, circle[0].children[0].base.id, len(circle)) == ("x", "y", 1)


def manifest(rank: int = 2, **files: str) -> Manifest:
    name = "base_model.model.model.layers.0.self_attn.{}.lora_{}.weight"
    tensors = [
        TensorEntry(name.format(module, half), "F32", shape)
        for module in ("q_proj", "v_proj")
        for half, shape in (("A", (rank, 8)), ("B", (8, rank)))
    ]
    entries = tuple(FileEntry(path.replace("__", "."), 10, sha) for path, sha in sorted(files.items()))
    config = {"peft_type": "LORA", "r": rank, "target_modules": ["q_proj", "v_proj"]}
    return Manifest(entries, config, tuple(sorted(tensors)))


def test_differences_of_two_manifests_are_listed() -> None:
    old, new = manifest(2, README__md="a", gone="x"), manifest(4, README__md="b", extra="y")
    assert [(row.name, row.before, row.after) for row in field_changes(old.config, new.config)] == [("r", "2", "4")]
    changes = {row.path: row.change for row in file_changes(old, new)}
    assert changes == {"README.md": "changed", "gone": "removed", "extra": "added"}
    assert len(tensor_changes(old, new)) == 4
    assert field_changes(old.config, old.config) == file_changes(old, old) == tensor_changes(old, old) == ()


def test_moves_are_counted_and_averaged() -> None:
    moves = [ModuleMove("model.layers.0.q_proj", 1.0, 1.0, 1.0), ModuleMove("model.layers.1.q_proj", 1.0, 2.0, 0.5)]
    view = view_changes(manifest(), manifest(), moves, 0.75)
    assert (view.compared, view.changed, view.mean_cosine, view.top) == (2, 1, 0.75, 0.5)
    assert view.chart


def test_parameters_by_kind_add_up() -> None:
    found = summarize(manifest(rank=2))
    rows = {"kinds": found.by_kind(), "layers": found.by_layer()}
    kept = {"line": found.line()} | {name: [asdict(row) for row in part] for name, part in rows.items()}
    view = view_parameters(json.loads(json.dumps(kept)))
    assert view.line.startswith("trainable params: 64 ||")
    assert [(row.name, row.modules, row.ranks, row.parameters) for row in view.kinds] == [
        ("q_proj", 1, "2", 2 * 8 * 2),
        ("v_proj", 1, "2", 2 * 8 * 2),
    ]
    assert sum(row.share for row in view.kinds) == sum(row.share for row in view.layers) == pytest.approx(1.0)


def test_layer_map_names_each_module_and_its_rank() -> None:
    view = draw_layers([LayerRow("model.layers.0.self_attn.q_proj", 0.25, 1.5, 4)])
    assert view.top == 0.25
    assert "effective rank 1.5 of 4" in str(view.chart)


def test_feed_is_atom_that_any_message_fits_into() -> None:
    entry = Entry("http://h/1", "task/qa@v1", "http://h/1", NOW, "kim", "bad \x00\x0b <b>&</b>")
    body = render_feed(title="t", page="http://h/p", self_href="http://h/f", entries=[entry], updated=NOW)
    feed = ElementTree.fromstring(body)
    assert feed.tag == f"{{{ATOM}}}feed"
    assert feed.findtext(f"{{{ATOM}}}updated") == "2026-03-10T12:00:00Z"
    item = feed.find(f"{{{ATOM}}}entry")
    assert item is not None
    assert item.findtext(f"{{{ATOM}}}summary") == "bad \ufffd\ufffd <b>&</b>"


@pytest.mark.parametrize("recorded_weights", [None, "sha256:w3", "sha256:unheard-of"])
@pytest.mark.parametrize("recorded_shapes", [None, "sha256:s3", "sha256:unheard-of"])
def test_a_base_of_many_fingerprints_is_judged_as_if_each_pair_were_and_sooner(
    monkeypatch: pytest.MonkeyPatch, recorded_shapes: str | None, recorded_weights: str | None
) -> None:
    shapes, weights = (tuple(f"sha256:{mark}{n}" for n in range(40)) for mark in "sw")
    base = Base("org/base", None, (), shapes, weights, None, (), 1, datetime.now(UTC))
    recorded = BaseIdentity(shapes=recorded_shapes, weights=recorded_weights)
    pairs = {compare_identity(recorded, BaseIdentity(shapes=s, weights=w)) for s, w in product(shapes, weights)}
    asked = []

    def count(*identities: BaseIdentity) -> BaseMatch:
        asked.append(identities)
        return compare_identity(*identities)

    monkeypatch.setattr(verdicts, "compare_identity", count)
    assert set(verdicts._matches(recorded, base)) == pairs
    assert len(asked) <= len(shapes) + len(weights)
