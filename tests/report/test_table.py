"""How a table is written."""

from doof_ext.report.table import Table


def test_latex_sets_every_sign_as_itself():
    table = Table("t", "c", ["a_b", "{x}"], [["~1 & 2 %", r"$5^2 #\ ± λ → −"]])
    assert table.latex().splitlines()[2:5] == [
        r"a\_b & \{x\} \\",
        r"\midrule",
        r"\textasciitilde{}1 \& 2 \% & \$5\textasciicircum{}2 \#\textbackslash{} $\pm$ $\lambda$ $\to$ $-$ \\",
    ]
