"""delta-rs MERGE, as its documentation writes it: a contestant of `merge.py` that needs nothing of ours.

`merge_rival.py --kind=even --lake=… --count=…` merges the newest row of each key, prepared beforehand
(`source.parquet`), into `dimensions/accounts`.
"""

import polars as pl
from deltalake import DeltaTable
from measure import arguments, measured, tell

HOT = 7  # the bucket, as in `merge_lake.py`


def main() -> None:
    """Merge, and say what it cost."""
    given = arguments()
    among = f" AND t._bucket = {HOT}" if given["kind"] == "hot" else ""  # which spares it the others

    def work() -> int:
        handle = DeltaTable(f"{given['lake']}/dimensions/accounts")
        source = pl.read_parquet(f"{given['lake']}/source.parquet")
        (
            handle.merge(source, f"t.id = s.id AND t._bucket = s._bucket{among}", "s", "t")
            .when_matched_delete("s._op = 'd'")
            .when_matched_update_all()
            .when_not_matched_insert_all("s._op <> 'd'")
            .execute()
        )
        return int(given["count"])

    tell(measured(work))


if __name__ == "__main__":
    main()
