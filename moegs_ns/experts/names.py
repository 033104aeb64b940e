"""Names of experts as people read them."""

READABLE = {
    "stg": "STG",
    "4dgaussians": "4DGaussians",
    "ex4dgs": "Ex4DGS",
    "ed3dgs": "E-D3DGS",
    "freetime": "FreeTimeGS",
    "tracked": "Dynamic3DGaussians",
}
"""How authors write the names of their methods, by the first word of ours."""


def readable(name: str) -> str:
    """An expert's name for people: `stg_lite_2` is STG lite 2; unknown ones stay as they are."""
    first, *rest = name.replace("-", "_").split("_")
    return " ".join([READABLE.get(first, first), *rest])
