"""Without the demonstration pair: a sentence that says what to install, and a model that must be named."""

from __future__ import annotations

import pytest

from thinwire.cloud.cli import main as cloud
from thinwire.common import demo_pair
from thinwire.edge.cli import main as edge


@pytest.fixture(autouse=True)
def _not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """As after `pip install thinwire` alone."""
    monkeypatch.setattr(demo_pair, "PACKAGE", "nonesuch_demo_pair")


def test_the_demo_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """A sentence with the distribution's name, no traceback."""
    assert edge(["demo"]) == 2
    assert capsys.readouterr().err == (
        "thinwire: the demonstration pair is not installed; expected thinwire-demo-pair (pip install).\n"
    )


@pytest.mark.parametrize(("main", "command"), [(edge, "edge"), (cloud, "serve")])
def test_a_daemon_then_needs_a_model(main: object, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """--model has no default then, and --help still works."""
    assert callable(main)
    with pytest.raises(SystemExit) as missing:
        main([command])
    assert missing.value.code == 2
    assert "--model" in capsys.readouterr().err
    with pytest.raises(SystemExit) as helped:
        main([command, "--help"])
    assert helped.value.code == 0
