"""An upgrade of the operator changes no byte of what runs, unless someone meant it: the files in golden/ say so.

After a change that is meant: WRITE_GOLDEN=1 python -m pytest tests/operator/test_render_golden.py, and read the diff.
It restarts the pods of every bot whose template differs: say so in the changelog.
"""

import os
from pathlib import Path

import pytest
import yaml

from support.operator_render import everything, rendered

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize(("name", "manifests"), [("paper", rendered()), ("mainnet", everything())])
def test_what_is_rendered_is_what_the_last_release_rendered(name, manifests):
    path = GOLDEN / f"{name}.yaml"
    text = yaml.safe_dump_all(manifests, sort_keys=True, width=120)
    if os.environ.get("WRITE_GOLDEN"):
        path.write_text(text)
    assert text == path.read_text()
