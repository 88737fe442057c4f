"""What the tests' search for examples leaves alone: the site's build, and its machinery, which needs Sphinx."""

collect_ignore_glob = ["_build/*", "_ext/*", "conf.py"]
