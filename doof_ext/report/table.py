"""What a table is, and how it is written: CSV, Markdown, LaTeX."""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass, field


@dataclass
class Table:
    """Rows of text under headings.

    Attributes:
        best: The cells to set in bold, (row, column).
        faded: Those to set in grey.
        missing: Which runs it lacks.
    """

    name: str
    caption: str
    headings: list[str]
    rows: list[list[str]]
    best: set[tuple[int, int]] = field(default_factory=set)
    faded: set[tuple[int, int]] = field(default_factory=set)
    missing: str = ""

    def csv(self) -> str:
        """Comma-separated values."""
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([self.headings, *self.rows])
        return text.getvalue()

    def markdown(self) -> str:
        """A pipe table, the best in bold."""
        rows = [
            [f"**{cell}**" if (i, j) in self.best else cell for j, cell in enumerate(row)]
            for i, row in enumerate(self.rows)
        ]
        lines = [f"| {' | '.join(cell.replace('|', '&#124;') for cell in row)} |" for row in [self.headings, *rows]]
        lines.insert(1, "|---" * len(self.headings) + "|")
        return "\n".join(lines) + "\n"

    def latex(self) -> str:
        """A tabular of booktabs, the best in bold."""
        lines = [r"\begin{tabular}{" + "l" + "r" * (len(self.headings) - 1) + "}", r"\toprule"]
        lines += [" & ".join(map(_tex, self.headings)) + r" \\", r"\midrule"]
        for i, row in enumerate(self.rows):
            cells = [
                rf"\textbf{{{_tex(cell)}}}"
                if (i, j) in self.best
                else rf"\textcolor{{gray}}{{{_tex(cell)}}}"
                if (i, j) in self.faded
                else _tex(cell)
                for j, cell in enumerate(row)
            ]
            lines.append(" & ".join(cells) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n"


_TEX = str.maketrans(
    {
        **{sign: f"\\{sign}" for sign in "&%_#${}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "±": r"$\pm$",
        "→": r"$\to$",
        "λ": r"$\lambda$",
        "−": "$-$",
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)
