"""Spark's MERGE of the same rows into the same table: on a copy to warm the JVM, then for the figures."""

import shutil
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Cost, arguments, tell
from merge_lake import HOT
from spark_job import jvm, session

_MERGE = """
MERGE INTO delta.`{table}` t USING parquet.`{source}` s ON t.id = s.id AND t._bucket = s._bucket{among}
WHEN MATCHED AND s._op = 'd' THEN DELETE
WHEN MATCHED THEN UPDATE SET *
WHEN NOT MATCHED AND s._op <> 'd' THEN INSERT *
"""


def main() -> None:
    """Run it: `spark_merge.py --kind=even --lake=… --count=…`."""
    given = arguments()
    lake = Path(given["lake"])
    among = f" AND t._bucket = {HOT}" if given["kind"] == "hot" else ""
    spark = session(lake / "spark-temporary")
    table, warm = lake / "dimensions" / "accounts", lake / "warm"
    shutil.copytree(table, warm)
    seconds = before = 0.0
    for target in (warm, table):
        before, _ = jvm(spark)
        begin = time.perf_counter()
        spark.sql(_MERGE.format(table=target, source=lake / "source.parquet", among=among))
        seconds = time.perf_counter() - begin
    after, peak = jvm(spark)
    tell(Cost(int(given["count"]), seconds, after - before, peak))
    spark.stop()


if __name__ == "__main__":
    main()
