"""Hooks of mkdocs.yml: ``results/`` is part of the site, and the API reference has a table of all settings."""

import sys
from pathlib import Path

from mkdocs.structure.files import File, InclusionLevel

ROOT = Path(__file__).parents[1]
_SHOWN = {".md", ".png", ".svg"}


def on_files(files, config):
    """Adds the results, which are beside ``docs/``, to the site."""
    for path in sorted((ROOT / "results").rglob("*")):
        if path.suffix in _SHOWN and "tables" not in path.parts:
            name = path.relative_to(ROOT).as_posix()
            added = File(name, str(ROOT), config.site_dir, config.use_directory_urls)
            added.inclusion = InclusionLevel.NOT_IN_NAV
            files.append(added)
    return files


def on_page_markdown(markdown, page, config, files):
    """Links to ``../results/`` as the site has them, and the tables of settings."""
    markdown = markdown.replace("](../results/", "](results/")
    if "<!-- settings -->" not in markdown:
        return markdown
    sys.path.insert(0, str(ROOT))
    try:
        from doof_ext.config import BaselineConfig, Config
    finally:
        sys.path.remove(str(ROOT))
    markdown = markdown.replace("<!-- settings -->", settings_table(Config))
    return markdown.replace("<!-- baseline settings -->", settings_table(BaselineConfig))


def settings_table(settings) -> str:
    """Every setting of a dataclass as Markdown: flag, default, what it is; a table per part."""
    from doof_ext.config.rules import flag, rules_of

    lines = []
    for stage, title in settings.TITLES.items():
        lines += [f"\n**{title[0].upper()}{title[1:]}**\n", "| flag | default | |", "|---|---|---|"]
        for name, rules in rules_of(settings).items():
            if rules.stage == stage:
                default = f"of the {rules.default_from}" if rules.default_from else f"`{getattr(settings, name)}`"
                choices = f" ({', '.join(rules.choices)})" if rules.choices else ""
                lines.append(f"| `{flag(name)}` | {default.replace('`None`', '')} | {rules.help}{choices} |")
    return "\n".join(lines)
