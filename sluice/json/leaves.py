"""From what Arrow's JSON reader gives to a contract's types, column-wise, leaf by leaf.

A leaf that is not surely right becomes null and marks its row as doubtful; the strict decoder then
decides. So nothing here may accept what `sluice.json.values` refuses; refusing more only costs time.
"""

import polars as pl
import pyarrow as pa

from sluice.contract import Json
from sluice.json.strict import Number
from sluice.json.times import PER_SECOND
from sluice.json.values import FLOATS, INTEGERS, physical, scalar_reader

_WHOLE = r"^-?(?:0|[1-9][0-9]{0,17})$"
_REAL = r"^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?$"
_DAY = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_CLOCK = r"T[0-9]{2}:[0-9]{2}:[0-5][0-9](?:\.[0-9]{1,6})?"
_HOLDS = pl.Decimal(38, 18)  # what NARROW may really hold
_BELIEVED = (-62_000_000_000, 253_300_000_000)  # seconds: a little inside the years 1 and 9999


def convert(array: pa.Array, dtype: pl.DataType, options: Json) -> tuple[pa.Array, pl.Series]:
    """Turn an array as read into `physical(dtype)`; also say which rows are in doubt."""
    if isinstance(dtype, pl.List | pl.Array):
        return _list(array, dtype, options)
    if isinstance(dtype, pl.Struct):
        return _struct(array, dtype, options)
    if isinstance(dtype, pl.String | pl.Categorical) or dtype == pl.Boolean:
        return array, _nowhere(len(array))
    converted = None if pa.types.is_decimal256(array.type) else _leaf(_series(array), dtype, options)
    if converted is None:
        converted = _one_by_one(array, dtype, options)
    return converted.to_arrow(), _series(array.is_valid()) & converted.is_null()


def _series(array: pa.Array) -> pl.Series:
    return pl.Series(pl.from_arrow(array))


def _nowhere(size: int) -> pl.Series:
    return pl.repeat(False, size, dtype=pl.Boolean, eager=True)


def _list(array: pa.ListArray, dtype: pl.List | pl.Array, options: Json) -> tuple[pa.Array, pl.Series]:
    offsets = _series(array.offsets)
    first, last = int(offsets[0]), int(offsets[-1])
    inner, doubt = convert(array.values.slice(first, last - first), dtype.inner, options)  # type: ignore[arg-type]
    starts = offsets - first
    doubtful = _nowhere(len(array))
    if doubt.any():
        total = pl.concat([pl.Series([0], dtype=pl.Int64), doubt.cast(pl.Int64).cum_sum()])
        doubtful = total.gather(starts[1:]) > total.gather(starts[:-1])
    if isinstance(dtype, pl.Array):
        doubtful |= _series(array.is_valid()) & (starts[1:] - starts[:-1] != dtype.size)
    absent = pl.Series(
        doubtful | _series(array.is_null())
    ).to_arrow()  # an Array of another width has no type
    return pa.ListArray.from_arrays(starts.to_arrow(), inner, mask=absent), doubtful


def _struct(array: pa.StructArray, dtype: pl.Struct, options: Json) -> tuple[pa.Array, pl.Series]:
    doubtful = _nowhere(len(array))
    arrays = []
    for part, field in zip(array.flatten(), dtype.fields, strict=True):
        inner, doubt = convert(part, field.dtype, options)  # type: ignore[arg-type]  # an instance
        arrays.append(inner)
        doubtful |= doubt
    names = [field.name for field in dtype.fields]
    return pa.StructArray.from_arrays(arrays, names, mask=array.is_null()), doubtful


def _leaf(series: pl.Series, dtype: pl.DataType, options: Json) -> pl.Series | None:
    """Convert the common cases; None where there is no vectorised way."""
    match dtype, series.dtype:
        case pl.Datetime(), pl.String():
            return _datetime(series, dtype, options)
        case pl.Date(), pl.String():
            return _date(series)
        case pl.Decimal(), pl.Decimal():
            series = series.cast(_HOLDS)
            cast = series.cast(dtype, strict=False)
            inside = series.cast(pl.Float64).abs() < 10 ** (dtype.precision - dtype.scale)
            return _where(cast, inside & (cast.cast(series.dtype, strict=False) == series))
        case pl.Decimal(), pl.String():
            return _decimal(series, dtype)
        case pl.Enum(), pl.String():
            return _where(series, series.is_in(dtype.categories.to_list()))
    if type(dtype) in INTEGERS:
        return _integer(series, dtype)
    if dtype.is_float():
        whole = series.cast(pl.Float64, strict=False)
        right = whole.is_finite() & (whole.abs() < FLOATS[type(dtype)])
        return _where(whole, right & series.str.contains(_REAL) if series.dtype == pl.String else right)
    return None


def _where(series: pl.Series, right: pl.Series) -> pl.Series:
    """Keep what is right, and only that; where it cannot be told, it is not."""
    right = right.fill_null(False) | series.is_null()
    return series if right.all() else series.to_frame("v").select(pl.when(right).then(pl.col.v)).to_series()


def _integer(series: pl.Series, dtype: pl.DataType) -> pl.Series:
    if series.dtype == pl.String:
        series = _where(series, series.str.contains(_WHOLE)).cast(pl.Int64)
    return series.cast(dtype, strict=False)  # null where it is out of range


def _decimal(series: pl.Series, dtype: pl.Decimal) -> pl.Series:
    whole = dtype.precision - dtype.scale
    digits = f"(?:0|[1-9][0-9]{{0,{whole - 1}}})" if whole else "0"
    fraction = rf"(?:\.[0-9]{{1,{dtype.scale}}})?" if dtype.scale else ""
    return _where(series, series.str.contains(f"^-?{digits}{fraction}$")).cast(dtype, strict=False)


def _date(series: pl.Series) -> pl.Series:
    days = _where(series, series.str.contains(_DAY + "$")).str.to_date("%Y-%m-%d", strict=False)
    seconds = days.cast(pl.Int32).cast(pl.Int64) * 86400
    return _where(days.cast(pl.Int32), seconds.is_between(*_BELIEVED))


def _datetime(series: pl.Series, dtype: pl.Datetime, options: Json) -> pl.Series | None:
    text = series.str.replace(" ", "T", literal=True)
    if dtype.time_zone is None:
        forms = {"": "%Y-%m-%dT%H:%M:%S%.f"}
    else:
        forms = {"Z": "%Y-%m-%dT%H:%M:%S%.fZ", "[-+][0-9]{2}:[0-9]{2}": "%Y-%m-%dT%H:%M:%S%.f%:z"}
        if options.timezone == "UTC":
            forms[""] = "%Y-%m-%dT%H:%M:%S%.f"
    result: pl.Series | None = None
    for offset, form in forms.items():
        fits = _where(text, text.str.contains(f"{_DAY}{_CLOCK}{offset}$"))
        if result is not None and fits.null_count() == len(fits):
            continue
        parsed = fits.str.to_datetime(form, time_unit="us", strict=False).to_physical()
        result = parsed if result is None else result.zip_with(result.is_not_null(), parsed)
        if result.null_count() == series.null_count():
            break
    return None if result is None else _in_unit(result, dtype.time_unit)


def _in_unit(micros: pl.Series, unit: str) -> pl.Series:
    seconds = micros // PER_SECOND["us"]
    sure = _where(micros, seconds.is_between(*_BELIEVED))
    if unit == "ms":
        return _where(sure, sure % 1000 == 0) // 1000
    if unit == "ns":
        return _where(sure, seconds.is_between(-9_000_000_000, 9_000_000_000)) * 1000
    return sure


def _one_by_one(array: pa.Array, dtype: pl.DataType, options: Json) -> pl.Series:
    """Ask the strict reader for each leaf."""
    read = scalar_reader(dtype, options)
    kind = str if pa.types.is_string(array.type) else Number
    values = [None if v is None else read(kind(v)) for v in array.to_pylist()]
    return pl.Series(values, dtype=physical(dtype))
