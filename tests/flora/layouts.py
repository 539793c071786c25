"""Layouts for tests: made by hand and drawn by hypothesis."""

from hypothesis import strategies as st

from flora.layout import AdapterLayout, Group, Member

SIZES = st.integers(1, 40)


def make_group(name: str = "qkv", in_features: int = 8, outs: tuple[int, ...] = (8, 4, 4)) -> Group:
    members = tuple(Member(f"{name}.{i}", out) for i, out in enumerate(outs))
    return Group(name, in_features, members)


def make_layout(
    *groups: Group, dtype: str = "float32", max_rank: int = 4, fingerprint: str = "tiny-0"
) -> AdapterLayout:
    return AdapterLayout(fingerprint, dtype, max_rank, groups or (make_group(),))


@st.composite
def layouts(
    draw: st.DrawFn, dtypes: tuple[str, ...] = ("bfloat16", "float16", "float32", "int8")
) -> AdapterLayout:
    outs = draw(st.lists(st.lists(SIZES, min_size=1, max_size=3), min_size=1, max_size=4))
    groups = [make_group(f"g{i}", draw(SIZES), tuple(sizes)) for i, sizes in enumerate(outs)]
    dtype = draw(st.sampled_from(dtypes))
    return make_layout(*groups, dtype=dtype, max_rank=draw(st.integers(1, 4)))
