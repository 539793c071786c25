"""What mkdocs calls while it builds the site: https://www.mkdocs.org/user-guide/configuration/#hooks."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

from docs.hooks.closed_site import pages_that_load_from_elsewhere
from docs.hooks.navigation import completed
from docs.hooks.pages import make_site


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Every page by our own making: links into the repository lead to pages of the site."""
    site = make_site(Path(config.config_file_path).parent)
    for file in list(files):
        if file.src_uri.endswith(".md"):
            files.remove(file)
    for address, text in site.pages.items():
        files.append(File.generated(config, address, content=text))
    for address, path in site.copies.items():
        files.append(File.generated(config, address, abs_src_path=str(path)))
    config.nav = completed(config.nav or [], site.pages)
    return files


def on_post_build(config: MkDocsConfig) -> None:
    """The site is whole by itself."""
    found = list(pages_that_load_from_elsewhere(Path(config.site_dir)))
    if found:
        raise PluginError("pages load from other hosts: " + ", ".join(found[:5]))
