"""A study that is killed again and again, at writes and steps drawn at random, until it has ended.

    python -m tests.orchestrator.chaos [--kills 100] [--seed 0]

makes it long, and compares the end with that of a study which nobody disturbed. The test does a few kills.
"""

from __future__ import annotations

import argparse
import random
import signal
import tempfile
from pathlib import Path

from orchestrator.folder import StudyFolder
from tests.orchestrator.faults import Forks, Point, forks
from tests.orchestrator.final import complaints, outcome, repeated_runs

REACH = 80
"""Operations after which a process is killed, at most: those of about two runs."""


def disturb(server: Forks, kind: str, folder: StudyFolder, kills: int, seed: int) -> int:
    """How often it was killed. The doctor comes by between some of the starts."""
    draw, done = random.Random(seed), 0
    while done < kills:
        kill = Point("*", count=draw.randint(1, REACH), when=draw.choice(("before", "half", "after")))
        code, said = server.run("make", kind, str(folder.path), kill=kill)
        if code == 0:
            return done
        assert code == -signal.SIGKILL, f"after {kill}: {said}"
        done += 1
        if folder.study_yaml.exists() and draw.random() < 0.3:
            code, said = server.run("doctor", str(folder.path))
            assert code == 0, f"the doctor, after {kill}: {said}"
    code, said = server.run("make", kind, str(folder.path))
    assert code == 0, said
    return done


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place, forks(Path(place)) as server:
        assert server.run("template")[0] == 0
        for kind in ("ablation", "search"):
            whole = StudyFolder(server.place / "whole" / "studies" / kind)
            assert server.run("make", kind, str(whole.path)) == (0, "")
            killed, number = 0, 0
            while killed < options.kills:
                folder = StudyFolder(server.place / str(number) / "studies" / kind)
                killed += disturb(server, kind, folder, options.kills - killed, options.seed + number)
                same = outcome(folder) == outcome(whole) and not repeated_runs(folder)
                left = [said for said in complaints(folder) if "half a file" not in said]
                print(f"{kind} {number}: killed {killed} times so far, {'equal' if same else 'NOT EQUAL'}", *left)
                number += 1


if __name__ == "__main__":
    main()
