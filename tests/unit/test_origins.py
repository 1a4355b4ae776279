"""Which server a GTID names, in every form in which MySQL and MariaDB write it."""

import pytest

from sluice.envelopes.origins import origin_of

A, B = "3e11fa47-71ca-11e1-9e33-c80aa9429562", "00000000-0000-0000-0000-000000000012"


@pytest.mark.parametrize(
    ("gtid", "server"),
    [
        (f"{A}:23", A),
        (f"{A}:1-5", A),
        (f"{A}:1-5:7-9:11", A),
        (f"{B}:1-5", B),
        (f"{A}:tag:1-5", A),
        (f"{A}:tag:1-5:other_2:7", A),
        (f"{A}:1-3:tag:5", A),
        (A.upper() + ":TAG:1-5", A),
        (f" {A}:1-5 ,\n{A}:7", A),
        (f"{A} : 1 - 5", A),
        (f"{A}:1-5,", A),
        ("0-1-42", "0-1"),
        ("10-3-42,\n10-3-43", "10-3"),
        (f"{A}:1-5,\n{B}:1-9", "7"),  # of several servers: the one that wrote the log
        ("0-1-42,1-2-7", "7"),
        (f"{A}:1,{B}", "7"),
        (A, "7"),
        (B, "7"),
        (f"{A}:", "7"),
        (f"{A}:tag", "7"),
        ("5", "7"),
        ("1-5", "7"),
        (":5", "7"),
        (",", "7"),
        ("", "7"),
        (None, "7"),
    ],
)
def test_a_gtid_names_the_server_whose_transaction_it_is(gtid, server):
    assert origin_of({"gtid": gtid, "server_id": 7})[0] == server


def test_a_long_set_is_read_in_no_time():
    assert origin_of({"gtid": f"{A}" + ":1-5" * 200_000 + ":x", "server_id": 7})[0] == "7"
    assert origin_of({"gtid": f"{A}:1-5," * 100_000, "server_id": 7})[0] == A
