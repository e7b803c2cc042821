"""What scripts have in common that start Ray on machines which they were given."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

HEAD_OPTIONS = "--dashboard-host=127.0.0.1 --disable-usage-stats"
WAITING = """\
wait_for_head() {  # ten minutes at most
  for _ in $(seq 300); do
    if ray health-check --address "$address" > /dev/null 2>&1; then return; fi
    sleep 2
  done
  echo "no Ray answers at $address" >&2
  return 1
}

wait_for_nodes() {  # so many of them, ten minutes at most: how many runs fit is counted at the start
  timeout 600 python -c '
import sys, time, ray
ray.init(address=sys.argv[1], log_to_driver=False, logging_level="ERROR")
while sum(node["Alive"] for node in ray.nodes()) < int(sys.argv[2]):
    time.sleep(1)
' "$address" "$1"
}
"""


def exports(environment: Mapping[str, str]) -> str:
    """A line a variable."""
    return "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())


def required(secrets: Sequence[str], cure: str) -> str:
    """Lines that end the script if one of them is not set; they print names only."""
    return "".join(f': "${{{name}:?{cure}}}"\n' for name in secrets)
