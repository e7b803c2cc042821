"""Files as people read them: comments at the top, blocks for what has several lines."""

from __future__ import annotations

from collections.abc import Mapping
from textwrap import indent
from typing import Any

import yaml


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Dumper.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def yaml_text(comment: str, *documents: Mapping[str, Any]) -> str:
    """YAML documents under a comment."""
    texts = (yaml.dump(document, Dumper=_Dumper, sort_keys=False, width=1000) for document in documents)
    return commented(comment) + "---\n".join(texts)


def commented(text: str) -> str:
    """Each line behind a `#`."""
    return indent(text.strip("\n") + "\n", "# ", lambda _: True).replace("# \n", "#\n")
