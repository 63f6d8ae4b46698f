"""What is shown of results is what the runs' own files say."""

from pathlib import Path

from doof_ext.experiment.summary import read_summary

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "hopper-medium-v2-lite"


def test_the_docs_table_is_the_reports_and_the_summaries():
    table = (RESULTS / "tables" / "table-3.md").read_text()
    page = (ROOT / "docs" / "report.md").read_text()
    assert table in page
    for shown in (page, (ROOT / "README.md").read_text()):
        assert "**recipe data**" in shown and "the arms cannot be told apart" in " ".join(shown.split())
    for arm in ("ratio-0", "ratio-1", "control"):
        summary = read_summary(RESULTS / arm / "summary.json")
        assert summary["dataset"]["source"] == "recipe"
        before, after = (f"{summary['scores'][name]['mean']:.1f}" for name in ("pretrained", "finetuned"))
        row = next(line for line in table.splitlines() if f"| {arm.replace('-', ' ')} |" in line)
        assert f"| {before} |" in row and after in row and f"{summary['gain']:+.1f}" in row
        assert "/tmp" not in (RESULTS / arm / "summary.json").read_text()
