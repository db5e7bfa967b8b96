"""The database that benchmarks.reports fills, and its output."""

import re

import pymongo
import pytest

from benchmarks import reports as benchmark
from database.bucket import Bucket
from reports import groups, runs

PORT = 29781


def test_its_database_has_the_runs_that_it_claims(mongo_server, tmp_path):
    with pymongo.MongoClient(mongo_server.host, mongo_server.port) as client:
        bucket = Bucket(client[benchmark.DBNAME], benchmark.COLLECTION)
        benchmark.fill(bucket, benchmark.Size(runs=7, records=11, steps=3))
        place = mongo_server.host, mongo_server.port, benchmark.DBNAME
        found, _ = runs.read(*place, cache_dir=str(tmp_path), curves=False)
        assert bucket.files.count_documents({}) == 7 * 11
        client.drop_database(benchmark.DBNAME)
    assert len(found) == 7 and {run.step for run in found} == {33}
    assert {run.state for run in found} == {runs.FINISHED}
    # The newest validation is that of the tenth record.
    assert [run.result('weight_angles') for run in found] == [9.0 + 10.5] * 7
    assert sorted(len(group.runs) for group in groups.of(found)) == [1, 1, 1, 2, 2]


@pytest.mark.nightly
def test_it_prints_the_time_of_each_command(capsys):
    arguments = ['--runs=6', '--records=3', '--steps=2', '--times=1', f'--port={PORT}']
    assert benchmark.main(arguments) == 0
    first, *timed = capsys.readouterr().out.splitlines()
    assert first.startswith('6 runs of 3 records of 2 steps: ') and len(timed) == 7
    assert all(
        re.match(r' +\d+\.\d\d s +\d+\.\d x +\d+\.\d\d s of CPU  (the|report)', line)
        for line in timed
    )
