"""AdapterLayout: offsets, padding, lookup, JSON."""

import json

import pytest
from hypothesis import given

from contracts.errors import ServiceError
from flora.layout import SCALE_BYTES, AdapterLayout, vector_width
from tests.flora.layouts import layouts, make_group, make_layout


def test_offsets_of_two_groups() -> None:
    layout = make_layout(
        make_group("qkv", 40, (40, 10, 10)), make_group("o", 40, (40,)), max_rank=2
    )
    qkv = layout.groups[0]
    assert (layout.beta_width(0), layout.alpha_width(0), layout.pair_width(0)) == (64, 64, 128)
    assert qkv.out_features == 60
    assert [qkv.out_offset(m) for m in range(3)] == [0, 40, 50]
    assert (layout.beta_offset(1), layout.alpha_offset(1), layout.base_width) == (128, 192, 256)
    assert (layout.max_extra_pairs(0), layout.max_extra_pairs(1)) == (5, 1)
    assert layout.row_width == 256 + 5 * 128 + 1 * 128
    assert layout.row_bytes == layout.row_width * 4
    assert layout.extra_offsets([2, 1]) == (256, 512, 640)


@pytest.mark.parametrize(
    ("count", "dtype", "width"),
    [(32, "bfloat16", 32), (33, "float32", 64), (28, "int8", 32), (29, "int8", 64)],
)
def test_an_int8_vector_has_room_for_its_scale(count: int, dtype: str, width: int) -> None:
    assert vector_width(count, dtype) == width


@given(layouts())
def test_vectors_are_aligned_and_do_not_overlap(layout: AdapterLayout) -> None:
    end = 0
    for g, group in enumerate(layout.groups):
        assert layout.beta_offset(g) == end
        behind = SCALE_BYTES if layout.dtype == "int8" else 0
        assert layout.alpha_offset(g) - end == layout.beta_width(g) >= group.in_features + behind
        assert layout.alpha_width(g) >= group.out_features + behind
        assert layout.pair_width(g) == layout.beta_width(g) + layout.alpha_width(g)
        end = layout.alpha_offset(g) + layout.alpha_width(g)
        assert end % 32 == 0
    assert layout.base_width == end <= layout.row_width


@given(layouts())
def test_json_round_trip_keeps_the_digest(layout: AdapterLayout) -> None:
    again = AdapterLayout.from_json(layout.to_json())
    assert again == layout
    assert again.digest == layout.digest


def test_any_change_changes_the_digest() -> None:
    one = make_layout()
    others = [
        make_layout(max_rank=5),
        make_layout(dtype="bfloat16"),
        make_layout(fingerprint="other"),
        make_layout(make_group(in_features=9)),
    ]
    assert len({layout.digest for layout in [one, *others]}) == 5


def test_lookup_by_module_name() -> None:
    layout = make_layout(make_group("a"), make_group("b"))
    assert layout.member("b.2") == (1, 2)
    assert layout.member("c.0") is None


@pytest.mark.parametrize(
    "parts",
    [
        {"dtype": "int4"},
        {"groups": []},
        {"max_rank": 0},
        {"max_rank": 70000},
        {"groups": [{"name": "g", "in_features": 4, "members": []}]},
        {
            "groups": [
                {"name": "g", "in_features": 0, "members": [{"name": "m", "out_features": 4}]}
            ]
        },
        {
            "groups": [
                {"name": "g", "in_features": 4, "members": [{"name": "m", "out_features": 4}] * 2}
            ]
        },
        {"groups": 3},
    ],
)
def test_malformed_layouts_are_refused(parts: dict[str, object]) -> None:
    whole = json.loads(make_layout().to_json())
    with pytest.raises(ServiceError):
        AdapterLayout.from_json(json.dumps(whole | parts))


def test_text_that_is_no_layout_is_refused() -> None:
    for text in ("", "[]", "{}", "[" * 100000):
        with pytest.raises(ServiceError):
            AdapterLayout.from_json(text)
