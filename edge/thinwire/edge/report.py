"""What a person sees of a generation: coloured text as it streams, and a short table; or JSON lines."""

from __future__ import annotations

import json
import math
from dataclasses import fields
from typing import TextIO

from rich.console import Console
from rich.text import Text

from thinwire.common.door.security import LinkSecurity
from thinwire.common.session.generation import (
    EdgeStatus,
    GenerationEvent,
    GenerationFinished,
    GenerationStarted,
    ServerInfo,
)
from thinwire.common.session.messages import TokenKind
from thinwire.common.session.statistics import GenerationStatistics
from thinwire.edge.explanation import explain
from thinwire.edge.pair import vocabulary_text
from thinwire.edge.telemetry import statistics_to_dict

STYLES = {TokenKind.ACCEPTED: "green", TokenKind.RESAMPLED: "bold red", TokenKind.BONUS: "cyan"}
"""Colours of the three origins of a token; without colour the text is plain."""
_LEGEND = {TokenKind.ACCEPTED: "accepted draft", TokenKind.RESAMPLED: "resampled", TokenKind.BONUS: "bonus"}

CAP_BINDING_LIMIT = 0.01
"""Share of positions with a binding K_max from which Theorem 2's guarantee is reported as void."""

_NO_PHASES = ("total_s", "first_token_s", "open_s", "draft_token_s", "hint_age_s")
"""Times that the others are not parts of."""

_NO_CONTROLS = {
    code: "\N{REPLACEMENT CHARACTER}" for code in (*range(32), 127, *range(128, 160)) if code not in (9, 10)
}
"""Model text may hold escape sequences; a terminal must not obey them."""


class Display:
    """
    Shows one generation on a terminal, or plainly into a pipe.

    Args:
        console: of the text; colours follow the terminal and NO_COLOR.
        statistics: of the table, another stream than the text's; None for no table.
        prompt: echoed before the text; None for no echo.
        explains: of a line that says why the text was as fast as it was; None for no line.
    """

    def __init__(
        self,
        console: Console,
        statistics: Console | None,
        *,
        prompt: str | None,
        explains: Console | None = None,
    ) -> None:
        self._console = console
        self._statistics = statistics
        self._explains = explains
        self._prompt = prompt
        self._kind = TokenKind.BONUS
        self._started: GenerationStarted | None = None

    def show(self, event: GenerationEvent) -> None:
        if isinstance(event, GenerationStarted):
            self._started = event
            if self._console.is_terminal and self._console.color_system and not self._console.no_color:
                self._legend()
            if self._prompt is not None:
                self._write(self._prompt, "dim")
        elif isinstance(event, GenerationFinished):
            self._write(event.text, STYLES[self._kind])
            self._console.file.write("\n")
            self._console.file.flush()  # before the table, which goes another way
            if self._statistics is not None:
                self._statistics.print()
                print_rows(self._statistics, statistics_rows(event, self._started))
            if self._explains is not None and self._started is not None:
                why = Text(str(explain(self._started, event.statistics)))
                self._explains.print(why, soft_wrap=True)
        else:
            for token in event:
                self._kind = token.kind
                self._write(token.text, STYLES[token.kind])
            self._console.file.flush()

    def broken_off(self) -> None:
        """The text ends in an error, whose sentence shall stand on a line of its own."""
        if self._console.is_terminal and self._started is not None:
            self._console.file.write("\n")

    def _legend(self) -> None:
        parts = [Text(word, STYLES[kind]) for kind, word in _LEGEND.items()]
        self._console.print(Text("tokens: ", "dim") + Text(" · ", "dim").join(parts), end="\n\n")

    def _write(self, text: str, style: str) -> None:
        """Text as it is: no wrapping, no markup; on a terminal without control characters."""
        if not text:
            return
        if self._console.is_terminal:
            self._console.print(Text(text.translate(_NO_CONTROLS), style), end="", soft_wrap=True)
        else:
            self._console.file.write(text)


class JsonLines:
    """One JSON object a line: each token, then the whole text with its statistics (docs/operations.md)."""

    def __init__(self, file: TextIO, *, explains: bool = False) -> None:
        self._file = file
        self._explains = explains
        self._started: GenerationStarted | None = None
        self._texts: list[str] = []

    def show(self, event: GenerationEvent) -> None:
        if isinstance(event, GenerationStarted):
            self._started = event
        elif isinstance(event, GenerationFinished):
            seed = self._started.seed if self._started is not None else None
            text = "".join([*self._texts, event.text])
            head = {"event": "statistics", "reason": event.reason.value, "text": text, "seed": seed}
            if self._started is not None:
                head |= {"scheme": str(self._started.scheme), "choice": self._started.choice}
            why: dict[str, object] = {}
            if self._explains and self._started is not None:
                why["explanation"] = explain(self._started, event.statistics).values()
            self._line({**head, **statistics_to_dict(event.statistics), **why})
        else:
            self._texts += [token.text for token in event]
            for token in event:
                kind = token.kind.value
                self._line({"event": "token", "token_id": token.token_id, "kind": kind, "text": token.text})

    def broken_off(self) -> None:
        """Without statistics: the exit code and standard error tell."""

    def _line(self, values: dict[str, object]) -> None:
        self._file.write(json.dumps(values, allow_nan=False, ensure_ascii=False) + "\n")
        self._file.flush()


def statistics_rows(finished: GenerationFinished, started: GenerationStarted | None) -> list[tuple[str, str]]:
    """(name, value) of every line of the table."""
    s = finished.statistics
    rows: list[tuple[str, str]] = []
    if started is not None:
        rows.append(("scheme", f"{started.scheme.scheme}, draft length {started.draft_length}"))
        if started.choice:
            rows.append(("  chosen by auto", started.choice))
    rows += [
        ("output tokens", f"{s.output_tokens} (ended by {finished.reason.value})"),
        ("tokens/s", _number(s.output_tokens / s.total_s if s.total_s else math.nan, 1)),
        ("rounds", str(s.rounds)),
        ("block efficiency", f"{_number(s.block_efficiency, 2)} tokens a round"),
        ("acceptance rate", f"{_number(s.acceptance_rate, 3)} of tested draft tokens"),
        ("resampling rate", f"{_number(s.resampling_rate, 3)} of output tokens"),
        ("uplink payload", _payload_text(s)),
        ("bytes up / down", f"{s.uplink_message_bytes} / {s.downlink_message_bytes} (whole messages)"),
        ("mean dropped mass", _number(s.mean_dropped_mass, 4)),
        ("  guaranteed at most", guarantee_text(s)),
        ("time", _time_text(s)),
    ]
    if s.draft_full_from:
        rows.append(
            ("draft context", f"full from output token {s.draft_full_from} on; the cloud wrote alone")
        )
    if predicted := s.accepted_prediction_tokens + s.rejected_prediction_tokens:
        rows.append(
            ("prediction", f"{s.accepted_prediction_tokens} of {predicted} tokens sent were the text's")
        )
    if s.reconnects:
        rows.append(("reconnects", f"{s.reconnects} (sessions opened again: {s.rebuilds})"))
    if started is not None:
        rows.append(("seed", str(started.seed)))
    return rows


def guarantee_text(statistics: GenerationStatistics) -> str:
    """Theorem 2's bound in words: '–' without one, void where the cap binds, vacuous above 1."""
    bound = statistics.dropped_mass_guarantee
    if bound is None:
        return "–"
    if statistics.cap_binding_rate >= CAP_BINDING_LIMIT:
        return f"void (cap bound on {100 * statistics.cap_binding_rate:.0f} %)"
    if bound > 1:
        return "vacuous (> 1)"
    return f"{bound:.4f}"


def status_rows(status: EdgeStatus, *, edge_security: LinkSecurity) -> list[tuple[str, str]]:
    """(name, value) of every line of `thinwire status`; `edge_security` is of the connection to the edge."""
    rows = [
        ("edge", f"thinwire {status.version}, {_model_text(status)}"),
        ("  listener", status.listener_security),
        ("  connection", edge_security.value),
        ("vocabulary", "–" if status.is_loading else vocabulary_text(status.vocabulary)),
        ("schemes", _schemes_text(status)),
        ("running", f"{status.generations} generations"),
        ("since start", f"{status.generations_finished} generations, {status.output_tokens} output tokens"),
    ]
    cloud = status.cloud_info
    if cloud is None:
        return [
            *rows,
            ("cloud", f"{status.cloud}, does not say what it is"),
            ("  connection", status.cloud_security),
            ("  reason", status.cloud_failure),
        ]
    return [
        *rows,
        ("cloud", f"{status.cloud}, thinwire {cloud.version}, {_model_text(cloud)}"),
        ("  listener", cloud.listener_security),
        ("  connection", status.cloud_security),
        ("  fingerprint", "–" if cloud.is_loading else _fingerprint_text(cloud)),
        ("  context", "–" if cloud.is_loading else f"{cloud.context_length} tokens"),
        ("  sessions", f"{cloud.sessions} of {cloud.max_sessions}"),
        ("  vocabulary", _pair_text(status, cloud)),
    ]


def _model_text(end: EdgeStatus | ServerInfo) -> str:
    if end.is_loading:
        return "no model yet"
    return f"{end.model} ({end.dtype}, {end.device})" if end.model else "no draft model"


def _fingerprint_text(cloud: ServerInfo) -> str:
    return cloud.target_fingerprint.hex() or "none: another target would go unnoticed"


def _pair_text(status: EdgeStatus, cloud: ServerInfo) -> str:
    if status.is_pair is None:
        return f"not compared, the {'edge' if status.is_loading else 'cloud'} has no model yet"
    if status.is_pair:
        return "the same"
    parts = status.vocabulary.differing_parts(cloud.vocabulary)
    where = f" in its {', '.join(parts)}" if parts else ""
    return f"ANOTHER{where} ({vocabulary_text(cloud.vocabulary)}): nothing can be generated"


def _schemes_text(status: EdgeStatus) -> str:
    """Those that a text can have: both ends must serve them."""
    if status.cloud_info is None:
        return f"{', '.join(status.schemes)} (of the edge; the cloud's are not known)"
    alone = [name for name in status.schemes if name not in status.common_schemes]
    not_there = f" (not served by the cloud: {', '.join(alone)})" if alone else ""
    return (", ".join(status.common_schemes) or "none") + not_there


def print_rows(console: Console, rows: list[tuple[str, str]]) -> None:
    """Two columns without a frame, never wrapped."""
    width = max(len(name) for name, _ in rows) + 2
    for name, value in rows:
        console.print(Text.assemble((name.ljust(width), "dim"), value), soft_wrap=True)


def _payload_text(s: GenerationStatistics) -> str:
    drafted = s.uplink_payload_bits / s.drafted_tokens if s.drafted_tokens else math.nan
    output = s.uplink_payload_bits / s.output_tokens if s.output_tokens else math.nan
    return f"{_number(drafted, 1)} bits a drafted token, {_number(output, 1)} bits an output token"


def _time_text(s: GenerationStatistics) -> str:
    names = [field.name for field in fields(s) if field.name.endswith("_s")]
    phases = [f"{n.removesuffix('_s')} {getattr(s, n):.2f}" for n in names if n not in _NO_PHASES]
    return f"{s.total_s:.2f} s ({', '.join(phases)})"


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
