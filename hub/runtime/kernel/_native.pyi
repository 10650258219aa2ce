def ways() -> list[str]: ...
def has_team() -> bool: ...
def weight(
    codes: int,
    scales: int,
    scale_codes: int,
    scale_table: int,
    group_scales: int,
    table: int,
    block_shift: int,
    group_shift: int,
    out: int,
    in_: int,
    offset: float,
    /,
) -> bytes: ...
def product(record: bytes, way: int, x: int, bias: int, y: int, rows: int, threads: int, /) -> None: ...
def dequantize(
    record: bytes,
    way: int,
    dense: int,
    is_narrow: int,
    first: int,
    last: int,
    begin: int,
    end: int,
    threads: int,
    /,
) -> None: ...
