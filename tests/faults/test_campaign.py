"""A small campaign of faults: `make faults` runs the large one."""
import os
import subprocess
import sys

CAMPAIGN = os.path.join(os.path.dirname(os.path.abspath(__file__)), 'campaign.py')


def test_nothing_is_lost_and_nothing_wrong(record_property):
    """In a process of its own, which forks trainings before TensorFlow starts a thread."""
    done = subprocess.run([sys.executable, CAMPAIGN, '--crashes=4', '--outages=3', '--seconds=4', '--seed=1'],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, universal_newlines=True)
    rows = [[cell.strip() for cell in line.split('|')[1:-1]] for line in done.stdout.splitlines() if line.startswith('| ')][1:]
    assert done.returncode == 0, done.stdout
    assert [row[1:] for row in rows] == [['4', '4', '0', '0']] + [['1', '1', '0', '0']] * 3
    record_property('references', 7)
